//! The thread that formats and writes the access log.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

use super::{
    DropCounter, LogFormat,
    format::Formatter,
    output::Output,
    queue::{Batch, Queue},
};
use crate::supervised::supervised;

/// Bytes of formatted lines per write.
const WRITE_BYTES: usize = 64 << 10;
/// Shortest time between two warnings that the file cannot be opened again.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// State of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    output: Output,
    formatter: Formatter,
    drops: Arc<DropCounter>,
    reopen_log: LogThrottle,
}

impl Writer {
    pub(super) fn new(
        queue: Arc<Queue>,
        output: Output,
        format: LogFormat,
        drops: Arc<DropCounter>,
    ) -> Self {
        Self {
            queue,
            output,
            formatter: Formatter::new(format),
            drops,
            reopen_log: LogThrottle::every(WARNING_INTERVAL),
        }
    }

    /// Starts the thread, which ends when the queue is closed and written.
    pub(super) fn spawn(self) -> io::Result<()> {
        let builder = thread::Builder::new().name("access-log".to_owned());
        builder
            .spawn(move || supervised("the access log", || self.run()))
            .map(drop)
    }

    fn run(mut self) {
        let mut spare = Batch::default();
        while let Some(mut batch) = self.queue.take(spare) {
            self.write(&batch);
            batch.clear();
            spare = batch;
        }
        self.queue.finish();
    }

    fn write(&mut self, batch: &Batch) {
        self.reopen();
        for line in batch.lines() {
            self.formatter.append(&mut self.output.buffer, &line);
            if self.output.buffer.len() >= WRITE_BYTES {
                self.flush();
            }
        }
        self.flush();
    }

    fn reopen(&mut self) {
        match self.output.reopen_if_moved() {
            Err(error) if self.reopen_log.record(Instant::now()).is_some() => {
                tracing::warn!(
                    %error,
                    "the access log was moved, and its path cannot be opened: lines go to the \
                     moved file (logged at most once per minute)"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn flush(&mut self) {
        if let Err(dropped) = self.output.flush() {
            self.drops.record(dropped.lines, &dropped.error.to_string());
        }
    }
}
