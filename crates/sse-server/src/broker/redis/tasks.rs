//! Starts the tasks of a broker, which end with its last clone.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    dial::Dialer,
    failover::LossDetector,
    format::FormatCheck,
    pubsub::{self, PubSubListener},
    sentinel::watch_sentinel,
    target::ServerAddress,
};
use crate::supervised::supervised_task;

/// Starts tasks.
pub(super) struct Tasks<'a> {
    pub(super) runtime: &'a Handle,
    pub(super) ended: CancellationToken,
}

impl Tasks<'_> {
    pub(super) fn start_connection(
        &self,
        dialer: Dialer,
        format: FormatCheck,
        timeout: Duration,
        losses: Arc<LossDetector>,
    ) -> (Connection, watch::Receiver<Option<ServerAddress>>) {
        if let Some(sentinels) = dialer.sentinels() {
            for address in &sentinels.addresses {
                let watching = (sentinels.clone(), dialer.clone(), address.clone());
                self.spawn(watch_sentinel(watching.0, watching.1, watching.2));
            }
        }
        let (connection, supervisor) = Connection::new(dialer, format, timeout, losses);
        let primary = supervisor.primary();
        self.spawn(supervisor.run());
        (connection, primary)
    }

    pub(super) fn start_notifications(&self, listener: PubSubListener) {
        self.spawn(pubsub::poll_followed(listener.notifier.clone()));
        self.spawn(listener.run());
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = supervised_task("a connection to Redis", task);
        let ended = self.ended.clone();
        self.runtime.spawn(ended.run_until_cancelled_owned(task));
    }
}
