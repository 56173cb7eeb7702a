//! stderr during a run: messages about failures, and the progress.
//!
//! A thread of its own writes to stderr, so that a stopped terminal or a pipe that is not read
//! cannot delay the schedule: messages that do not fit the queue are dropped.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    progress::{Progress, ProgressDisplay, SharedCounts, Style},
    stats::Counts,
};

/// Highest number of messages in the queue.
const MESSAGES_MAX: usize = 64;

/// Handle of the thread that writes to stderr.
#[derive(Debug)]
pub(crate) struct StderrWriter {
    messages: SyncSender<String>,
    counts: Arc<SharedCounts>,
    thread: JoinHandle<()>,
}

impl StderrWriter {
    /// Starts the thread. `total` is the approximate number of events of the run, if it is known.
    pub(crate) fn start(progress: Progress, prints_status: bool, total: Option<u64>) -> Self {
        let terminal_has_status = prints_status && io::stdout().is_terminal();
        let style = Style::choose(progress, terminal_has_status, io::stderr().is_terminal());
        let display = ProgressDisplay::new(style, total);
        let (messages, queue) = mpsc::sync_channel(MESSAGES_MAX);
        let counts = Arc::<SharedCounts>::default();
        let shared = Arc::clone(&counts);
        Self {
            messages,
            counts,
            thread: thread::spawn(move || write_messages(display, &queue, &shared)),
        }
    }

    /// Queues a message. Never waits. Returns `false` if the message was dropped.
    pub(crate) fn try_write_line(&self, line: String) -> bool {
        self.messages.try_send(line).is_ok()
    }

    /// Updates the progress. `waiting` counts the requests that wait for their responses.
    pub(crate) fn update_progress(&self, counts: Counts, waiting: usize) {
        self.counts.store(counts, waiting);
    }

    /// Waits until all messages are written, and removes the bar.
    pub(crate) fn finish(self) {
        drop(self.messages);
        // The thread does not panic: errors of stderr are ignored.
        let _ = self.thread.join();
    }
}

/// Writes messages as they arrive, and the progress at its interval, until the queue is closed.
fn write_messages(mut display: ProgressDisplay, queue: &Receiver<String>, counts: &SharedCounts) {
    let interval = display.interval();
    let mut next = Instant::now() + interval;
    loop {
        match queue.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(message) => display.write_message(&message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return display.finish(),
        }
        if Instant::now() >= next {
            display.update(counts);
            next += interval;
        }
    }
}
