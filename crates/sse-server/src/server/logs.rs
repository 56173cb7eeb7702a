//! The access log and the audit log: opens them, and writes what is left at the end.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::spawn_blocking;

use crate::{access_log::AccessLog, audit_log::AuditLog, config::Config, metrics::Metrics};

/// Time for the last lines of each log, whose pipe or disk may be blocked.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The logs of what clients do. Each one is `None` if it is off.
#[derive(Clone, Default)]
pub(super) struct Logs {
    pub(super) access: Option<AccessLog>,
    pub(super) audit: Option<AuditLog>,
}

impl Logs {
    /// Opens the logs that the settings name.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub(super) fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let access = config.access_log.as_ref();
        let access =
            access.map(|target| AccessLog::open(target, config.log_format, metrics.clone()));
        let audit = config.audit_log.as_ref();
        let audit = audit.map(|path| AuditLog::open(path, metrics.clone()));
        Ok(Self {
            access: access.transpose()?,
            audit: audit.transpose()?,
        })
    }

    /// Writes what is queued.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let close = move || {
            if let Some(log) = self.access {
                log.close(CLOSE_TIMEOUT);
            }
            if let Some(log) = self.audit {
                log.close(CLOSE_TIMEOUT);
            }
        };
        spawn_blocking(close).await.context("the end of the logs")
    }
}
