//! The thread that writes the audit log.

use std::{
    io,
    ops::ControlFlow,
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

use super::{
    DropCounter,
    queue::{LineReceiver, Received},
    throttle::RejectionThrottle,
};
use crate::{access_log::output::Output, supervised::supervised};

/// Time between two looks for counts of rejections that are due.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of lines per write.
const WRITE_BYTES: usize = 64 << 10;
/// Shortest time between two warnings that the file cannot be opened again.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// State of the writer thread.
pub(super) struct Writer {
    lines: LineReceiver,
    throttle: Arc<RejectionThrottle>,
    output: Output,
    drops: Arc<DropCounter>,
    reopen_log: LogThrottle,
    next_sweep: Instant,
}

impl Writer {
    pub(super) fn new(
        lines: LineReceiver,
        throttle: Arc<RejectionThrottle>,
        output: Output,
        drops: Arc<DropCounter>,
    ) -> Self {
        Self {
            lines,
            throttle,
            output,
            drops,
            reopen_log: LogThrottle::every(WARNING_INTERVAL),
            next_sweep: Instant::now() + SWEEP_INTERVAL,
        }
    }

    /// Starts the thread, which ends when the queue is closed.
    pub(super) fn spawn(self) -> io::Result<()> {
        let builder = thread::Builder::new().name("audit-log".to_owned());
        builder
            .spawn(move || supervised("the audit log", || self.run()))
            .map(drop)
    }

    fn run(mut self) {
        let finished = loop {
            let patience = self.next_sweep.saturating_duration_since(Instant::now());
            let received = self.lines.wait(patience);
            self.reopen();
            if let ControlFlow::Break(finished) = self.write_from(received) {
                break finished;
            }
            self.sweep();
            self.flush();
        };
        for record in self.throttle.take_all() {
            self.append(&record);
        }
        self.flush();
        drop(finished);
    }

    /// Buffers a line and those behind it. If the queue is closed, breaks with what is dropped at the
    /// end of the thread.
    fn write_from(&mut self, mut received: Received) -> ControlFlow<Option<SyncSender<()>>> {
        loop {
            match received {
                Received::Line(line) => self.append(&line),
                Received::Nothing => return ControlFlow::Continue(()),
                Received::Closed(finished) => return ControlFlow::Break(finished),
            }
            received = self.lines.next();
        }
    }

    /// Writes the counts of rejections that are due.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        for record in self.throttle.take_due(now) {
            self.append(&record);
        }
    }

    fn append(&mut self, line: &[u8]) {
        self.output.buffer.extend_from_slice(line);
        if self.output.buffer.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Err(dropped) = self.output.flush() {
            self.drops.record(dropped.lines, &dropped.error.to_string());
        }
    }

    fn reopen(&mut self) {
        match self.output.reopen_if_moved() {
            Err(error) if self.reopen_log.record(Instant::now()).is_some() => {
                tracing::warn!(
                    %error,
                    "the audit log was moved, and its path cannot be opened: lines go to the moved \
                     file (logged at most once per minute)"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }
}
