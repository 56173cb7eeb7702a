//! `sse-server copy`: copies a log to Redis.
//!
//! | file | contents |
//! |---|---|
//! | `source`, `server` | the log that is copied: of a stopped server, or of a running one |
//! | `channel` | the copy of one channel |
//! | `follow` | catches up with a running server until the switch |
//! | `error`, `report`, `signals` | why a log was not copied; what was copied; what ends a copy |
//!
//! ```text
//! source ── list: the state of channels, by name ──► channel ──► Redis
//!    └───── page: records and keys of a channel ──────┘  ▲          │
//!                                                        └── find ──┘ the last id that is copied
//! ```
//!
//! A copy keeps nothing on disk and nothing in memory besides some pages. The target itself shows how
//! far it is, so a copy that was interrupted continues where it was.

mod channel;
mod error;
mod follow;
mod report;
mod server;
mod signals;
mod source;

use std::{io::Write as _, path::PathBuf, time::Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sse_proto::EventId;

use self::{
    channel::{check_channel, copy_channel},
    follow::{Followed, follow},
    report::Report,
    signals::Signals,
};
pub(crate) use self::{error::CopyError, server::ServerSource, source::Source};
use crate::broker::{
    redis::copy_target::{CopyTarget, CopyTargetOptions},
    transfer::SourceChannel,
};

/// What to copy.
pub(crate) struct CopyOrder {
    /// The log.
    pub(crate) source: Source,
    /// Whether the copy catches up until a signal, or until the server has stopped.
    pub(crate) follows: bool,
    /// The data directory from which the rest is copied when the server has stopped.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) target: CopyTargetOptions,
}

/// A log and the Redis that gets a copy of it.
struct Copying {
    source: Source,
    target: CopyTarget,
    report: Report,
}

/// Copies a log. Returns a sentence once the copy is complete.
///
/// # Errors
///
/// Every [`CopyError`]. The copy can be continued then, unless the target is the wrong one.
pub(crate) async fn copy_log(order: CopyOrder) -> Result<String, CopyError> {
    let mut signals = Signals::install().map_err(CopyError::Signals)?;
    let target = CopyTarget::connect(&order.target).await?;
    let mut copying = Copying {
        source: order.source,
        target,
        report: Report::default(),
    };
    tokio::select! {
        claimed = copying.claim_target() => claimed?,
        () = signals.next() => return Err(CopyError::Interrupted),
    }
    if order.follows {
        match follow(&copying, order.data_dir.as_deref(), &mut signals).await? {
            Followed::Switch => {}
            Followed::ServerStopped(log) => copying.source = log,
        }
    }
    tokio::select! {
        completed = copying.complete() => completed,
        () = signals.next() => Err(CopyError::Interrupted),
    }
}

impl Copying {
    /// Marks the target as a copy that is not complete. A target in which another program has a
    /// channel of the log is left as it is.
    async fn claim_target(&self) -> Result<(), CopyError> {
        let found = self.target.inspect().await.map_err(CopyError::Target)?;
        if !found.nodes.is_empty() {
            return Err(CopyError::NodesRun(found.nodes.join(", ")));
        }
        if found.has_channels && !found.is_unfinished {
            self.each_channel(None, async |listed| check_channel(self, &listed).await)
                .await?;
        }
        self.target
            .mark_unfinished()
            .await
            .map_err(CopyError::Target)
    }

    /// Copies and compares every channel, and lets nodes start.
    async fn complete(&self) -> Result<String, CopyError> {
        self.report.begin_last_pass();
        let highest = self.pass(None).await?;
        let revocations = self.source.revocations().await?;
        let added = self.target.add_revocations(&revocations).await;
        added.map_err(CopyError::Target)?;
        self.target
            .mark_complete()
            .await
            .map_err(CopyError::Target)?;
        Ok(self.report.describe(highest))
    }

    /// Copies all channels, or those that have changed after `since`. Returns the highest id of the log
    /// at the beginning: everything up to it is copied.
    async fn pass(&self, since: Option<EventId>) -> Result<EventId, CopyError> {
        self.each_channel(since, async |listed| copy_channel(self, listed).await)
            .await
    }

    /// Calls `work` for each channel, several at a time.
    async fn each_channel(
        &self,
        since: Option<EventId>,
        work: impl AsyncFn(SourceChannel) -> Result<(), CopyError>,
    ) -> Result<EventId, CopyError> {
        let mut reported = Instant::now();
        let (mut after, mut highest) = (None, None);
        loop {
            let list = self.source.list(after.as_ref(), since).await?;
            let highest = *highest.get_or_insert(list.highest);
            stream::iter(list.channels)
                .map(|listed| work(listed))
                .buffer_unordered(self.source.concurrent())
                .try_collect::<()>()
                .await?;
            if reported.elapsed() >= report::INTERVAL {
                reported = Instant::now();
                // Progress is not needed to know the result.
                let _ = writeln!(std::io::stderr(), "{}", self.report.progress());
            }
            after = list.next;
            if after.is_none() {
                return Ok(highest);
            }
        }
    }
}
