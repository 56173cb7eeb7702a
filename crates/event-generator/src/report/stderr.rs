//! stderr during a run: messages about failures, and the progress as a bar or as lines.
//!
//! A thread of its own writes to stderr, so that a stopped terminal or a pipe that is not read
//! cannot delay the schedule: messages that do not fit the queue are dropped.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sse_cli::stderr::write_line;

use super::stats::Counts;

/// Highest number of messages in the queue.
const MESSAGES_MAX: usize = 64;
const LINE_EVERY: Duration = Duration::from_secs(1);
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Values of `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A bar on a terminal, otherwise one line per second; nothing on a terminal that shows the
    /// status codes
    #[default]
    Auto,
    /// One line per second
    Lines,
    /// Nothing
    Off,
}

/// Style of the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Nothing,
}

/// Handle of the thread that writes to stderr.
#[derive(Debug)]
pub(crate) struct StderrWriter {
    messages: SyncSender<String>,
    counts: Arc<SharedCounts>,
    thread: JoinHandle<()>,
}

/// Progress of the run, shared with the thread.
#[derive(Debug, Default)]
struct SharedCounts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    waiting: AtomicU64,
}

impl StderrWriter {
    /// Starts the thread. `total` is the approximate number of events of the run, if it is known.
    pub(crate) fn start(progress: Progress, prints_status: bool, total: Option<u64>) -> Self {
        let (messages, to_print) = mpsc::sync_channel(MESSAGES_MAX);
        let counts = Arc::<SharedCounts>::default();
        let style = style(
            progress,
            prints_status && io::stdout().is_terminal(),
            io::stderr().is_terminal(),
        );
        let writer = StderrThread::new(style, total, Arc::clone(&counts));
        Self {
            messages,
            counts,
            thread: thread::spawn(move || writer.run(&to_print)),
        }
    }

    /// Queues a message. Never waits. Returns `false` if the message was dropped.
    pub(crate) fn try_write_line(&self, line: String) -> bool {
        self.messages.try_send(line).is_ok()
    }

    /// Updates the progress. `waiting` counts the requests that wait for their replies.
    pub(crate) fn update_progress(&self, counts: Counts, waiting: usize) {
        let SharedCounts {
            sent,
            acknowledged,
            failed,
            unknown,
            waiting: shared_waiting,
        } = &*self.counts;
        sent.store(counts.sent, Relaxed);
        acknowledged.store(counts.acknowledged, Relaxed);
        failed.store(counts.failed, Relaxed);
        unknown.store(counts.unknown, Relaxed);
        shared_waiting.store(waiting as u64, Relaxed);
    }

    /// Waits until all messages are written, and removes the bar.
    pub(crate) fn finish(self) {
        drop(self.messages);
        // The thread does not panic: errors of stderr are ignored.
        let _ = self.thread.join();
    }
}

fn style(progress: Progress, terminal_has_status: bool, stderr_is_terminal: bool) -> Style {
    match progress {
        Progress::Off => Style::Nothing,
        Progress::Lines => Style::Lines,
        Progress::Auto if !stderr_is_terminal => Style::Lines,
        Progress::Auto if terminal_has_status => Style::Nothing,
        Progress::Auto => Style::Bar,
    }
}

/// State of the thread.
struct StderrThread {
    style: Style,
    bar: ProgressBar,
    counts: Arc<SharedCounts>,
    started: Instant,
    /// Events that were sent before the last line.
    sent_before: u64,
}

impl StderrThread {
    fn new(style: Style, total: Option<u64>, counts: Arc<SharedCounts>) -> Self {
        let target = if style == Style::Bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}",
            None => "{elapsed_precise} {spinner} {pos} {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a template of known keys"));
        Self {
            style,
            bar,
            counts,
            started: Instant::now(),
            sent_before: 0,
        }
    }

    fn run(mut self, messages: &Receiver<String>) {
        let step = if self.style == Style::Bar {
            BAR_EVERY
        } else {
            LINE_EVERY
        };
        let mut next = Instant::now() + step;
        loop {
            match messages.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(line) => self.bar.suspend(|| write_line(line)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next {
                self.update_display();
                next += step;
            }
        }
        self.bar.finish_and_clear();
    }

    fn update_display(&mut self) {
        let counts = Counts {
            sent: self.counts.sent.load(Relaxed),
            acknowledged: self.counts.acknowledged.load(Relaxed),
            failed: self.counts.failed.load(Relaxed),
            unknown: self.counts.unknown.load(Relaxed),
        };
        let waiting = self.counts.waiting.load(Relaxed);
        match self.style {
            Style::Nothing => {}
            Style::Lines => {
                let rate = counts.sent.saturating_sub(self.sent_before);
                write_line(format_args!(
                    "{}s: {counts}; {rate}/s, {waiting} waiting",
                    self.started.elapsed().as_secs()
                ));
                self.sent_before = counts.sent;
            }
            Style::Bar => {
                self.bar.set_position(counts.sent);
                let Counts {
                    acknowledged,
                    failed,
                    unknown,
                    ..
                } = counts;
                self.bar.set_message(format!(
                    "acknowledged {acknowledged}, failed {failed}, unknown {unknown}"
                ));
                self.bar.tick();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_for_a_terminal_that_does_not_show_status_codes() {
        for (progress, terminal_has_status, stderr_is_terminal, expected) in [
            (Progress::Auto, false, true, Style::Bar),
            (Progress::Auto, true, true, Style::Nothing),
            (Progress::Auto, true, false, Style::Lines),
            (Progress::Auto, false, false, Style::Lines),
            (Progress::Lines, true, true, Style::Lines),
            (Progress::Off, false, true, Style::Nothing),
        ] {
            assert_eq!(
                style(progress, terminal_has_status, stderr_is_terminal),
                expected
            );
        }
    }
}
