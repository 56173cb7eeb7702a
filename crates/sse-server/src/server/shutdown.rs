//! The order in which a server ends.
//!
//! With `--drain`, SIGTERM first lets the streams end one after another, while the server still
//! accepts connections and publishes (`fanout/drain`). Then:
//!
//! 1. No new connections, and the files of unix sockets are removed. Every stream ends at once, and
//!    its client resumes elsewhere by its id.
//! 2. Publishes in progress get [`PUBLISH_TIMEOUT_S`] to finish, because their publishers wait for
//!    a response.
//! 3. The fan-out threads end.
//! 4. The log closes. Everything that was acknowledged is on disk already.
//! 5. The access log and the audit log are written (`logs`).

use std::{
    io,
    time::{Duration, Instant},
};

use actix_server::ServerHandle;
use anyhow::{Context as _, anyhow};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{logs::Logs, service_manager::ServiceManager, unix_socket::SocketFile};
#[cfg(target_os = "linux")]
use crate::fanout::reachability::Sweeper;
use crate::{
    broker::{Broker, BrokerError},
    fanout::{
        drain::{Drain, DrainPlan},
        thread::Fanout,
    },
};

/// Seconds for publishes in progress; streams end at once.
pub(super) const PUBLISH_TIMEOUT_S: u64 = 3;
/// Time for everything after a panic.
const PANIC_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server stops.
#[derive(Debug)]
pub enum StopReason {
    /// The process received this signal.
    Signal(&'static str),
    /// The embedded log no longer accepts events.
    LogFailed(BrokerError),
    /// This part of the server panicked, see [`supervised_part`](crate::supervised_part).
    Panic(&'static str),
}

impl StopReason {
    fn log(&self) {
        match self {
            Self::Signal(signal) => tracing::info!(
                signal,
                "stopping: no new connections, streams end, publishes finish"
            ),
            Self::LogFailed(error) => {
                tracing::error!(%error, "stopping: the log can no longer be written");
            }
            Self::Panic(part) => tracing::error!(part, "stopping: a part of the server panicked"),
        }
    }

    /// Whether the server drains before it stops.
    pub(super) fn drains(&self) -> bool {
        matches!(self, Self::Signal("SIGTERM"))
    }

    /// Returns the error with which the process ends.
    pub(super) fn into_result(self) -> anyhow::Result<()> {
        match self {
            Self::Signal(_) => Ok(()),
            Self::LogFailed(error) => {
                Err(anyhow::Error::new(error).context("the log was given up"))
            }
            Self::Panic(part) => Err(anyhow!("a defect ended {part}")),
        }
    }
}

/// A server that serves.
pub(super) struct Running {
    pub(super) manager: ServiceManager,
    pub(super) handle: ServerHandle,
    /// The task that serves, which ends after `handle` was asked to stop.
    pub(super) serving: JoinHandle<io::Result<()>>,
    /// The files of the unix sockets.
    pub(super) socket_files: Vec<SocketFile>,
    /// Ends the streams that HTTP workers drive.
    pub(super) stopping: CancellationToken,
    /// Drives the other streams.
    pub(super) fanout: Option<Fanout>,
    /// Closes the streams of unreachable clients until it is dropped.
    #[cfg(target_os = "linux")]
    pub(super) _sweeper: Sweeper,
    pub(super) broker: Broker,
    pub(super) logs: Logs,
    pub(super) drain: Drain,
    /// Time after which clients reconnect.
    pub(super) retry: Duration,
}

impl Running {
    /// Lets the streams end one after another during `length`. Returns the reason to stop at once,
    /// if there is one before that.
    pub(super) async fn drain(
        &self,
        length: Duration,
        stop: impl Future<Output = StopReason>,
    ) -> Option<StopReason> {
        tracing::info!(
            ?length,
            "draining: streams end one after another, publishes work"
        );
        self.manager.drains(length);
        let is_in_process = !matches!(self.broker, Broker::Redis(_));
        self.drain.start(DrainPlan {
            start: Instant::now(),
            length,
            retry: is_in_process.then(|| length.saturating_add(self.retry)),
        });
        if let Some(fanout) = &self.fanout {
            fanout.start_drain();
        }
        timeout(length, stop).await.ok()
    }

    /// Ends the server.
    ///
    /// After a panic the end has a limit, because the part that panicked may be needed for it.
    pub(super) async fn shut_down(self, reason: &StopReason) -> anyhow::Result<()> {
        reason.log();
        match reason {
            StopReason::Panic(_) => timeout(PANIC_TIMEOUT, self.end_in_order())
                .await
                .context("the server did not stop in time")?,
            StopReason::Signal(_) | StopReason::LogFailed(_) => self.end_in_order().await,
        }
    }

    async fn end_in_order(self) -> anyhow::Result<()> {
        self.manager.stops();
        self.stopping.cancel();
        if let Some(fanout) = &self.fanout {
            fanout.end_streams();
        }
        drop(self.socket_files);
        self.handle.stop(true).await;
        self.serving
            .await
            .context("the server's task")?
            .context("serving")?;
        if let Some(fanout) = self.fanout {
            close_fanout(fanout).await?;
        }
        if let Broker::Embedded(log) = &self.broker {
            log.close();
        }
        self.logs.close().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn close_fanout(fanout: Fanout) -> anyhow::Result<()> {
    spawn_blocking(move || fanout.close())
        .await
        .context("the end of the fan-out threads")
}
