//! The lease of a channel: the node that has it appends messages of Flask-SSE and sends events to
//! Flask-SSE.
//!
//! The lease only saves work. Two nodes that both believe to have it do no harm: an append happens
//! once (`flask_append.lua`), and only the node of the newest epoch sends (`flask_publish.lua`).
//!
//! The node with the lease also publishes the markers that identify messages; see
//! [`queue`](super::queue). A channel without messages since the last marker needs no new one.

use std::{sync::Arc, time::Duration};

use redis::Value;
use sse_proto::EventId;
use tokio::time::timeout;

use super::{BridgedChannel, FlaskBridge, queue::Marker};
use crate::broker::{
    BrokerError,
    redis::{
        replies::{into_array, malformed, parse_id},
        scripts::{FLASK_LEASE, milliseconds},
    },
};

/// Pause between two renewals, and between two markers.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lease lasts after its last renewal.
const LEASE: Duration = Duration::from_secs(3);
/// After a longer time without a bridge, events are sent to Flask-SSE from now on only. Its readers
/// take every event for a new one.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// A lease that this node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    /// Grows each time that the lease passes to a node.
    pub(super) epoch: i64,
    /// The id up to which events were sent to Flask-SSE when the lease was renewed.
    pub(super) sent: EventId,
}

/// Acquires and renews the lease of `channel`, for ever.
pub(super) async fn run(bridge: Arc<FlaskBridge>, channel: Arc<BridgedChannel>) {
    loop {
        channel.set_lease(bridge.renew_lease(&channel).await);
        bridge.publish_marker(&channel).await;
        // Both outcomes lead to the same renewal.
        let _ = timeout(RENEWAL_INTERVAL, channel.lease_due.notified()).await;
    }
}

impl FlaskBridge {
    /// Returns the lease if this node has it now.
    ///
    /// A node that does not receive messages lets its lease expire.
    async fn renew_lease(&self, channel: &BridgedChannel) -> Option<Lease> {
        if !self.is_connected() {
            return None;
        }
        let renewed = self.try_renew_lease(channel).await;
        channel.has_asked.send_replace(true);
        renewed.unwrap_or_else(|error| {
            tracing::debug!(%error, "the lease of a bridged channel was not renewed");
            None
        })
    }

    async fn try_renew_lease(
        &self,
        channel: &BridgedChannel,
    ) -> Result<Option<Lease>, BrokerError> {
        let names = &self.streams.names;
        let mut script = FLASK_LEASE.key(names.flask_state(&channel.name));
        script
            .key(names.stream(&channel.name))
            .key(names.life(&channel.name))
            .arg(&self.node)
            .arg(milliseconds(LEASE))
            .arg(milliseconds(IDLE_MAX))
            .arg(&channel.markers);
        let mut session = self.streams.shards.session(&channel.name).await?;
        parse_lease(session.run(&script).await?)
    }

    /// Publishes a marker if this node has the lease and messages came since the last marker.
    ///
    /// A marker that is not published, or whose publication is unknown, changes nothing.
    async fn publish_marker(&self, channel: &BridgedChannel) {
        if !channel.is_leader() || channel.queue().count_since_marker() == 0 {
            return;
        }
        if let Err(error) = self.try_publish_marker(channel, &self.new_marker()).await {
            tracing::debug!(%error, "a marker was not published");
        }
    }

    async fn try_publish_marker(
        &self,
        channel: &BridgedChannel,
        marker: &Marker,
    ) -> Result<(), BrokerError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&channel.markers).arg(marker.as_str());
        let mut session = self.streams.shards.session(&channel.name).await?;
        session.query_one(command).await
    }
}

impl BridgedChannel {
    /// Sets the lease, and starts the work that comes with a new one.
    fn set_lease(&self, lease: Option<Lease>) {
        let epoch = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.epoch);
        let is_new = self.lease.send_if_modified(|held| {
            let is_new = epoch(held) != epoch(&lease);
            *held = lease;
            is_new
        });
        if is_new {
            self.received.notify_one();
        }
    }
}

/// Parses the reply of `flask_lease.lua`.
fn parse_lease(reply: Value) -> Result<Option<Lease>, BrokerError> {
    let malformed = || malformed("no lease");
    let mut values = into_array(reply).ok_or_else(malformed)?.into_iter();
    match (values.next(), values.next(), values.next()) {
        (Some(Value::Int(0)), None, None) => Ok(None),
        (Some(Value::Int(1)), Some(Value::Int(epoch)), Some(sent)) => {
            let sent = parse_id(sent).ok_or_else(malformed)?;
            Ok(Some(Lease { epoch, sent }))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn the_reply_has_an_epoch_and_a_cursor_or_says_that_another_node_leads() {
        let lease = Lease {
            epoch: 3,
            sent: EventId::new(5, 1),
        };
        let held = Value::Array(vec![Value::Int(1), Value::Int(3), text("5-1")]);
        assert_eq!(parse_lease(held).unwrap(), Some(lease));
        assert_eq!(
            parse_lease(Value::Array(vec![Value::Int(0)])).unwrap(),
            None
        );
        for bad in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1), Value::Int(3)]),
            Value::Array(vec![Value::Int(1), Value::Int(3), text("x")]),
        ] {
            assert!(parse_lease(bad).is_err());
        }
    }
}
