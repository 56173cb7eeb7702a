//! The audit log: who did what, from where, and with which result.
//!
//! ```text
//!  HTTP worker ── AuditLog::record ──► limit of rejections ──► queue ──► writer ──► file
//!                                        (throttle)          (limit)   (thread)
//! ```
//!
//! A request that used a right has a line, and so does one that was rejected. Rejections can be
//! caused by anyone, so equal ones within ten seconds share a line that has their count. The thread
//! that serves a request never waits: the queue has a limit, lines beyond it are dropped, and a
//! metric counts them.
//!
//! | file | contents |
//! |---|---|
//! | `record` | what a line contains, and its JSON |
//! | `throttle` | counts equal rejections |
//! | `queue` | the lines that wait for the writer, and their limit |
//! | `writer` | the thread |

mod queue;
mod record;
mod throttle;
mod writer;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

pub use self::record::{AuditRecord, NO_RESPONSE, OK};
use self::{
    queue::{LineSender, line_queue},
    throttle::RejectionThrottle,
    writer::Writer,
};
use crate::{
    access_log::output::{LogName, Output},
    metrics::Metrics,
};

/// Shortest time between two warnings about dropped lines.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Users who can write to the directory of the file must not be able to lead it elsewhere.
const AUDIT_LOG: LogName = LogName {
    name: "audit log",
    flag: "--audit-log",
    follows_links: false,
};

/// An open audit log; clones share it.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    lines: LineSender,
    throttle: Arc<RejectionThrottle>,
    drops: Arc<DropCounter>,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Opens the file and starts the writer thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created, or the system has no more threads.
    pub fn open(path: &Path, metrics: Metrics) -> anyhow::Result<Self> {
        let output = Output::open_file(AUDIT_LOG, path)?;
        if output.is_open_to_others() {
            tracing::warn!(
                "the audit log {} can be read by other users of this machine: set its permissions \
                 to 0600",
                path.display()
            );
        }
        Ok(Self::start(output, metrics)?)
    }

    fn start(output: Output, metrics: Metrics) -> io::Result<Self> {
        let throttle = Arc::new(RejectionThrottle::default());
        let drops = Arc::new(DropCounter::new(metrics));
        let (sender, receiver) = line_queue();
        Writer::new(receiver, throttle.clone(), output, drops.clone()).spawn()?;
        Ok(Self(Arc::new(Inner {
            lines: sender,
            throttle,
            drops,
        })))
    }

    /// Queues a line for the writer. A rejection that is like a recent one is only counted. If the
    /// queue is full, the line is dropped and counted.
    pub fn record(&self, record: AuditRecord) {
        let Some(record) = self.0.throttle.admit(record, Instant::now()) else {
            return;
        };
        if !self.0.lines.send(record.to_line(1)) {
            self.0.drops.record(1, "its queue is full");
        }
    }

    /// Lets the writer write what is queued and the counts of rejections, and waits for it up to
    /// `patience`.
    pub fn close(&self, patience: Duration) {
        self.0.lines.close(patience);
    }
}

/// Counts dropped lines, and logs a warning now and then.
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
        self.metrics.audit_lines_dropped(lines);
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = throttle.record(Instant::now()).is_some();
        drop(throttle);
        if is_due {
            tracing::warn!(
                cause,
                "the audit log drops lines; sse_audit_log_dropped_total counts them (logged at most \
                 once per minute)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
