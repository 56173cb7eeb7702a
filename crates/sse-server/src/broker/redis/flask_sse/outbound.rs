//! From the log to Flask-SSE.
//!
//! The node with the lease reads the log from the cursor on and publishes its events, in pages. An
//! entry that came from Flask-SSE has the field `flask` and is not sent back. Gap records and
//! entries of other programs are not sent either. `flask_publish.lua` publishes a page and moves the
//! cursor in one step.

use std::{sync::Arc, time::Duration};

use redis::Value;
use sse_proto::EventId;
use tokio::time::{Instant, sleep, timeout};

use super::{BridgedChannel, FlaskBridge, lease::Lease, message::encode_message};
use crate::broker::{
    BrokerError, PageLimits, Stored,
    redis::{
        backoff::Backoff,
        entries::{Entry, parse_entries},
        replies::{into_array, malformed, parse_id},
        scripts::FLASK_PUBLISH,
    },
};

/// Pause after which the log is read although no notification came.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two reads, so that a flood of notifications costs few reads.
const READ_INTERVAL: Duration = Duration::from_millis(5);
/// A page of the log.
const PAGE: PageLimits = PageLimits {
    events_max: 256,
    bytes_max: 1 << 20,
};

/// What sending a page resulted in.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// The events up to this id were sent, and there may be more.
    Sent(EventId),
    /// There was nothing to send.
    AtEnd,
    /// The cursor is at another id than expected.
    Moved(EventId),
    /// The lease has passed to another node.
    NotLeader,
}

/// The entries of a page.
struct LogPage {
    last: EventId,
    /// The messages for Flask-SSE.
    messages: Vec<String>,
}

/// Sends the events of `channel` while this node has its lease, for ever.
pub(super) async fn run(bridge: Arc<FlaskBridge>, channel: Arc<BridgedChannel>) {
    let mut leases = channel.lease.subscribe();
    loop {
        let lease = channel.lease();
        if let Some(lease) = lease {
            let sending = bridge.send_events(&channel, &lease);
            // A change of the lease ends the sending between two commands or during one; either
            // way the cursor in Redis shows what was sent.
            tokio::select! {
                () = sending => {}
                _ = leases.changed() => continue,
            }
        }
        // The sender lives as long as the channel.
        let _ = leases.changed().await;
    }
}

impl FlaskBridge {
    /// Sends events until the lease has passed to another node.
    async fn send_events(&self, channel: &BridgedChannel, lease: &Lease) {
        let mut cursor = lease.sent;
        let mut backoff = Backoff::default();
        loop {
            match self.send_page(channel, lease.epoch, cursor).await {
                Ok(Progress::Sent(id) | Progress::Moved(id)) => cursor = id,
                Ok(Progress::NotLeader) => return,
                Ok(Progress::AtEnd) => {
                    *channel.unsent_since() = None;
                    backoff.reset();
                    channel.log_sent();
                    channel.wait_for_change().await;
                }
                Err(error) => {
                    channel.log_not_sent(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    async fn send_page(
        &self,
        channel: &BridgedChannel,
        epoch: i64,
        cursor: EventId,
    ) -> Result<Progress, BrokerError> {
        let Some(page) = self.read_page(channel, cursor).await? else {
            return Ok(Progress::AtEnd);
        };
        channel.note_unsent();
        let mut script = FLASK_PUBLISH.key(self.streams.names.flask_state(&channel.name));
        script
            .arg(epoch)
            .arg(cursor.to_string())
            .arg(page.last.to_string())
            .arg(channel.name.as_str());
        for message in &page.messages {
            script.arg(message);
        }
        let mut session = self.streams.shards.session(&channel.name).await?;
        let progress = parse_progress(session.run(&script).await?, page.last)?;
        if matches!(progress, Progress::Sent(_)) {
            self.reports.count_sent(page.messages.len());
        }
        Ok(progress)
    }

    /// Reads the entries after `cursor`; returns `None` if there are none.
    async fn read_page(
        &self,
        channel: &BridgedChannel,
        cursor: EventId,
    ) -> Result<Option<LogPage>, BrokerError> {
        let (streams, name) = (&self.streams, &channel.name);
        let limits = streams.page_sizes.next_page(name, PAGE);
        streams.page_sizes.forget(name);
        let start = format!("({cursor}");
        let [reply] = streams
            .query(name, [streams.range(name, &start, limits.events_max)])
            .await?;
        let is_from_flask = marked_entries(&reply);
        let entries = parse_entries(name, reply)?;
        let Some(last) = entries.last().map(Entry::id) else {
            return Ok(None);
        };
        let own = entries.iter().zip(is_from_flask);
        let own = own.filter(|(_, is_from_flask)| !is_from_flask);
        let messages = own.filter_map(|(entry, _)| to_message(entry)).collect();
        let stored: Vec<Stored> = entries.into_iter().filter_map(Entry::into_stored).collect();
        streams.page_sizes.record(name, limits, &stored);
        Ok(Some(LogPage { last, messages }))
    }
}

/// Returns the message for Flask-SSE; `None` for entries of other programs and gap records.
fn to_message(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Stored(stored) if !stored.is_gap() => {
            Some(encode_message(stored.id, &stored.kind, &stored.data))
        }
        Entry::Stored(_) | Entry::Foreign(_) => None,
    }
}

impl BridgedChannel {
    /// Waits until the log may have new events.
    async fn wait_for_change(&self) {
        let earliest = Instant::now() + READ_INTERVAL;
        // Both outcomes lead to the same read.
        let _ = timeout(POLL_INTERVAL, self.changed.notified()).await;
        sleep(earliest.saturating_duration_since(Instant::now())).await;
    }

    fn note_unsent(&self) {
        self.unsent_since()
            .get_or_insert_with(std::time::Instant::now);
    }
}

/// Returns for each entry of an `XRANGE` whether it came from Flask-SSE.
fn marked_entries(reply: &Value) -> Vec<bool> {
    let entries = match reply {
        Value::Array(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(is_from_flask).collect()
}

fn is_from_flask(entry: &Value) -> bool {
    let Value::Array(parts) = entry else {
        return false;
    };
    let Some(Value::Array(fields)) = parts.get(1) else {
        return false;
    };
    let mut names = fields.iter().step_by(2);
    names.any(|name| matches!(name, Value::BulkString(name) if name == b"flask"))
}

/// Parses the reply of `flask_publish.lua` for a page up to `last`.
fn parse_progress(reply: Value, last: EventId) -> Result<Progress, BrokerError> {
    let malformed = || malformed("an invalid reply to events for Flask-SSE");
    let mut values = into_array(reply).ok_or_else(malformed)?.into_iter();
    match (values.next(), values.next()) {
        (Some(Value::BulkString(word)), None) if word == b"sent" => Ok(Progress::Sent(last)),
        (Some(Value::BulkString(word)), None) if word == b"not_leader" => Ok(Progress::NotLeader),
        (Some(Value::BulkString(word)), Some(id)) if word == b"moved" => {
            parse_id(id).map(Progress::Moved).ok_or_else(malformed)
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

    fn entry(fields: &[&str]) -> Value {
        let fields = fields.iter().map(|field| text(field)).collect();
        Value::Array(vec![text("1-0"), Value::Array(fields)])
    }

    #[test]
    fn an_entry_from_flask_has_a_field_of_this_name() {
        let reply = Value::Array(vec![
            entry(&["event", "a", "data", "b"]),
            entry(&["event", "a", "data", "b", "flask", "1"]),
            entry(&["event", "flask", "data", "flask"]),
            Value::Nil,
        ]);
        assert_eq!(marked_entries(&reply), [false, true, false, false]);
        assert!(marked_entries(&Value::Nil).is_empty());
    }

    #[test]
    fn every_reply_of_the_script_is_parsed() {
        let last = EventId::new(9, 0);
        let reply = |values: &[&str]| {
            let values = values.iter().map(|value| text(value)).collect();
            parse_progress(Value::Array(values), last)
        };
        assert_eq!(reply(&["sent"]).unwrap(), Progress::Sent(last));
        assert_eq!(reply(&["not_leader"]).unwrap(), Progress::NotLeader);
        let moved = Progress::Moved(EventId::new(7, 1));
        assert_eq!(reply(&["moved", "7-1"]).unwrap(), moved);
        for bad in [&[][..], &["moved"], &["moved", "x"], &["other"]] {
            assert!(reply(bad).is_err());
        }
    }
}
