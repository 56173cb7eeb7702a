//! What the server reports to the service manager that started it, by the protocol of systemd.
//!
//! | file | contents |
//! |---|---|
//! | `notify_socket` | sends the messages |
//! | `watchdog` | reports that the server works, as long as each of its parts makes progress |
//! | `progress` | the parts, and how far each has come |
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is reported. The messages are those of
//! `sd_notify(3)`.

mod notify_socket;
mod progress;
mod watchdog;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{notify_socket::NotifySocket, watchdog::watchdog_interval};
pub(super) use self::{
    progress::{Parts, WorkerRegistry},
    watchdog::watch,
};
use crate::{broker::Broker, supervised::supervised_task};

/// How long the service manager waits for the next message while the log opens, at least.
const OPENING_EXTENSION: Duration = Duration::from_mins(1);
/// Pause between these messages.
const OPENING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for a stop after the drain. It is longer than a stop can take.
const STOP_EXTENSION: Duration = Duration::from_secs(30);
/// Age up to which the status may be wrong about Redis.
const REDIS_STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// The service manager; clones share its socket.
#[derive(Debug, Clone)]
pub(super) struct ServiceManager {
    socket: Option<Arc<NotifySocket>>,
    /// Time after which the service manager ends a server that sends no watchdog message.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Finds the service manager in the environment of the process.
    pub(super) fn from_environment() -> Self {
        let socket = NotifySocket::from_environment();
        Self {
            watchdog: socket.as_ref().and_then(|_| watchdog_interval()),
            socket: socket.map(Arc::new),
        }
    }

    /// Reports until the result is dropped that the log is being opened.
    ///
    /// After a crash the log may be read as a whole, which can take longer than any fixed limit.
    pub(super) fn log_opens(&self) -> Option<DropGuard> {
        self.socket.as_ref()?;
        let (manager, is_open) = (self.clone(), CancellationToken::new());
        let guard = is_open.clone().drop_guard();
        tokio::spawn(async move {
            let mut tick = interval(OPENING_INTERVAL);
            while is_open.run_until_cancelled(tick.tick()).await.is_some() {
                manager.send(&[status("opening the log"), extend(OPENING_EXTENSION)]);
            }
        });
        Some(guard)
    }

    /// Reports that the server listens and its own log is open, and starts the watchdog.
    pub(super) fn ready(&self, broker: &Broker, parts: Parts, stopping: &CancellationToken) {
        if self.socket.is_none() {
            return;
        }
        self.send(&["READY=1".to_owned(), status(serving_status(broker))]);
        if matches!(broker, Broker::Redis(_)) {
            let follow = follow_redis(self.clone(), broker.clone(), stopping.clone());
            tokio::spawn(follow);
        }
        if let Some(limit) = self.watchdog {
            let watchdog = watch(self.clone(), parts, limit, stopping.clone());
            tokio::spawn(supervised_task("the watchdog", watchdog));
        }
    }

    /// Reports that the streams end one after another during `length`.
    pub(super) fn drains(&self, length: Duration) {
        self.send(&[
            "STOPPING=1".to_owned(),
            status("draining: streams end one after another, publishes work"),
            extend(length.saturating_add(STOP_EXTENSION)),
        ]);
    }

    /// Reports that the server stops.
    pub(super) fn stops(&self) {
        self.send(&[
            "STOPPING=1".to_owned(),
            status("no new connections; streams end, publishes finish"),
            extend(STOP_EXTENSION),
        ]);
    }

    /// Reports why the server has failed.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.send(&[status(format_args!("failed: {error:#}"))]);
    }

    /// Sends one message of several assignments.
    fn send(&self, assignments: &[String]) {
        if let Some(socket) = &self.socket {
            socket.send(&assignments.join("\n"));
        }
    }
}

/// Updates the status when Redis stops or starts to respond.
async fn follow_redis(manager: ServiceManager, broker: Broker, stopping: CancellationToken) {
    let mut reported = serving_status(&broker);
    let mut tick = interval(REDIS_STATUS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(tick.tick()).await.is_some() {
        let found = serving_status(&broker);
        if found != reported {
            manager.send(&[status(found)]);
            reported = found;
        }
    }
}

fn serving_status(broker: &Broker) -> &'static str {
    match broker {
        Broker::Embedded(_) => "serving; the log is open",
        Broker::Memory(_) => "serving; events are in memory only",
        Broker::Redis(_) if broker.era().is_some() => "serving; Redis responds",
        Broker::Redis(_) => "serving; Redis does not respond, so no publish works",
    }
}

/// A status is one line.
fn status(text: impl fmt::Display) -> String {
    let text = text.to_string().replace(char::is_control, " ");
    format!("STATUS={text}")
}

/// Lets the service manager wait for at least `time` from now on.
fn extend(time: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", time.as_micros())
}
