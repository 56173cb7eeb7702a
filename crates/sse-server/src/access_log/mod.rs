//! The access log: one line per request, and one more at the end of each stream.
//!
//! ```text
//!  HTTP worker, fan-out thread ── AccessLog::record ──► queue ──► writer ──► file or stdout
//!                                  copies the text    (limit)    (thread)
//! ```
//!
//! The thread that serves a request only copies the line into the queue, which takes a short lock.
//! The writer thread formats all queued lines and writes them at once. A full disk, a closed pipe
//! and a pipe without a reader never delay a request: the queue has a limit, lines beyond it are
//! dropped, and a metric counts them.
//!
//! | file | contents |
//! |---|---|
//! | `line` | what a line contains |
//! | `stream_record` | what an open stream keeps for its last line |
//! | `queue` | the lines that wait for the writer, and their limit |
//! | `writer` | the thread |
//! | `output` | the file or stdout, also after a rotation |
//! | `format`, `escape`, `redact` | a line as text or JSON, without control bytes and secrets |

mod escape;
mod format;
mod line;
pub(crate) mod output;
mod queue;
mod redact;
mod stream_record;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

pub use self::{
    line::{Line, LineKind, Protocol},
    stream_record::StreamRecord,
};
use self::{output::Output, queue::Queue, writer::Writer};
use crate::metrics::Metrics;

/// Shortest time between two warnings about dropped lines.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Form of the lines of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the access log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// An open access log; clones share it.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    drops: Arc<DropCounter>,
}

impl AccessLog {
    /// Opens `target` and starts the writer thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created, or the system has no more threads.
    pub fn open(
        target: &AccessLogTarget,
        format: LogFormat,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let output = Output::open(target)?;
        Ok(Self::start(output, format, metrics)?)
    }

    fn start(output: Output, format: LogFormat, metrics: Metrics) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let drops = Arc::new(DropCounter::new(metrics));
        Writer::new(queue.clone(), output, format, drops.clone()).spawn()?;
        Ok(Self(Arc::new(Inner { queue, drops })))
    }

    /// Queues a line for the writer. If the queue is full, the line is dropped and counted.
    pub fn record(&self, line: Line<&str>) {
        if !self.0.queue.push(line) {
            self.0.drops.record(1, "its queue is full");
        }
    }

    /// Lets the writer write what is queued, and waits for it up to `patience`.
    ///
    /// Lines that are recorded later are dropped.
    pub fn close(&self, patience: Duration) {
        self.0.queue.close(patience);
    }
}

/// Counts dropped lines, and logs a warning now and then.
#[derive(Debug)]
struct DropCounter {
    metrics: Metrics,
    throttle: Mutex<LogThrottle>,
}

impl DropCounter {
    fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            throttle: Mutex::new(LogThrottle::every(WARNING_INTERVAL)),
        }
    }

    fn record(&self, lines: usize, cause: &str) {
        self.metrics.access_lines_dropped(lines);
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = throttle.record(Instant::now()).is_some();
        drop(throttle);
        if is_due {
            tracing::warn!(
                cause,
                "the access log drops lines; sse_access_log_dropped_total counts them (logged at \
                 most once per minute)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
