//! The progress of a run on stderr: a bar, or lines.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sse_cli::stderr::write_line;

use super::stats::Counts;

const LINE_INTERVAL: Duration = Duration::from_secs(1);
const BAR_INTERVAL: Duration = Duration::from_millis(200);

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
pub(super) enum Style {
    Bar,
    Lines,
    Nothing,
}

impl Style {
    /// Chooses a style. `terminal_has_status` means that stdout prints status codes on a terminal.
    pub(super) fn choose(
        progress: Progress,
        terminal_has_status: bool,
        stderr_is_terminal: bool,
    ) -> Self {
        match progress {
            Progress::Off => Self::Nothing,
            Progress::Lines => Self::Lines,
            Progress::Auto if !stderr_is_terminal => Self::Lines,
            Progress::Auto if terminal_has_status => Self::Nothing,
            Progress::Auto => Self::Bar,
        }
    }
}

/// Counters that the run updates and the thread of the progress reads.
#[derive(Debug, Default)]
pub(super) struct SharedCounts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    waiting: AtomicU64,
}

impl SharedCounts {
    pub(super) fn store(&self, counts: Counts, waiting: usize) {
        self.sent.store(counts.sent, Relaxed);
        self.acknowledged.store(counts.acknowledged, Relaxed);
        self.failed.store(counts.failed, Relaxed);
        self.unknown.store(counts.unknown, Relaxed);
        self.waiting.store(waiting as u64, Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            sent: self.sent.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            failed: self.failed.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
        }
    }
}

/// The progress on stderr.
pub(super) struct ProgressDisplay {
    style: Style,
    bar: ProgressBar,
    started: Instant,
    /// Events that were sent before the last line.
    sent_before: u64,
}

impl ProgressDisplay {
    /// `total` is the approximate number of events of the run, if it is known.
    pub(super) fn new(style: Style, total: Option<u64>) -> Self {
        Self {
            style,
            bar: new_bar(style, total),
            started: Instant::now(),
            sent_before: 0,
        }
    }

    /// Returns the time between two updates.
    pub(super) fn interval(&self) -> Duration {
        match self.style {
            Style::Bar => BAR_INTERVAL,
            Style::Lines | Style::Nothing => LINE_INTERVAL,
        }
    }

    /// Writes a message, above the bar if there is one.
    pub(super) fn write_message(&self, message: &str) {
        self.bar.suspend(|| write_line(message));
    }

    /// Shows the current counters.
    pub(super) fn update(&mut self, shared: &SharedCounts) {
        match self.style {
            Style::Nothing => {}
            Style::Lines => self.write_progress_line(shared),
            Style::Bar => self.draw_bar(shared.counts()),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn write_progress_line(&mut self, shared: &SharedCounts) {
        let (counts, waiting) = (shared.counts(), shared.waiting.load(Relaxed));
        let rate = counts.sent.saturating_sub(self.sent_before);
        self.sent_before = counts.sent;
        let seconds = self.started.elapsed().as_secs();
        write_line(format_args!(
            "{seconds}s: {counts}; {rate}/s, {waiting} waiting"
        ));
    }

    fn draw_bar(&self, counts: Counts) {
        let Counts {
            sent,
            acknowledged,
            failed,
            unknown,
        } = counts;
        self.bar.set_position(sent);
        self.bar.set_message(format!(
            "acknowledged {acknowledged}, failed {failed}, unknown {unknown}"
        ));
        self.bar.tick();
    }
}

fn new_bar(style: Style, total: Option<u64>) -> ProgressBar {
    let target = if style == Style::Bar {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let template = match total {
        Some(_) => "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}",
        None => "{elapsed_precise} {spinner} {pos} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("a template of known keys");
    let bar = ProgressBar::with_draw_target(total, target);
    bar.set_style(style);
    bar
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
                Style::choose(progress, terminal_has_status, stderr_is_terminal),
                expected
            );
        }
    }
}
