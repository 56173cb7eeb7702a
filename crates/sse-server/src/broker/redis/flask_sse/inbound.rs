//! From Flask-SSE to the log.
//!
//! The node with the lease appends what is in its queue. Every other node keeps its messages until
//! it knows that the log has them. It asks once per second, and appends messages itself that are
//! not in the log after [`LATE`]: the leader may not have received them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ScriptInvocation, Value};
use sse_proto::EventId;
use tokio::time::timeout;

use super::{
    BridgedChannel, FlaskBridge,
    message::{FlaskMessage, Rejection, parse_message},
    queue::Received,
    wire::Payload,
};
use crate::{
    broker::{
        BrokerError, Publisher,
        lifecycle::{AfterDelete, ChannelSettings, CreateRule, Incarnation},
        redis::{
            backoff::Backoff,
            replies::{into_array, malformed, parse_id},
            scripts::{FLASK_APPEND, milliseconds, random_suffix},
            settings_text::{parse_settings, settings_text},
        },
    },
    metrics::FlaskResult,
};

/// Pause between two questions of a node without the lease.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Markers that a node asks for at a time.
const MARKERS_MAX: usize = 64;
/// Age at which a node without the lease appends a message itself.
const LATE: Duration = Duration::from_secs(10);
/// How long Redis keeps what it knows about a marker.
const MARKER_LIFE: Duration = Duration::from_hours(1);
/// Age at which a message is dropped. It must be in the log, or known not to be, before Redis
/// forgets its marker.
const MESSAGE_LIFE: Duration = Duration::from_mins(50);

/// Appends what `channel` receives, for ever.
pub(super) async fn run(bridge: Arc<FlaskBridge>, channel: Arc<BridgedChannel>) {
    let mut backoff = Backoff::default();
    loop {
        // Both outcomes lead to the same work.
        let _ = timeout(POLL_INTERVAL, channel.received.notified()).await;
        while let Err(error) = bridge.store_messages(&channel).await {
            channel.log_not_stored(&error);
            backoff.wait().await;
        }
        backoff.reset();
    }
}

impl FlaskBridge {
    /// Appends the messages that this node must append, and forgets those that the log has.
    async fn store_messages(&self, channel: &BridgedChannel) -> Result<(), BrokerError> {
        self.drop_expired(channel);
        if !channel.is_leader() {
            self.forget_done(channel).await?;
        }
        loop {
            let batch = channel.next_batch();
            if batch.is_empty() {
                return Ok(());
            }
            self.append_batch(channel, &batch).await?;
            channel.log_stored();
        }
    }

    fn drop_expired(&self, channel: &BridgedChannel) {
        if let Some(oldest) = Instant::now().checked_sub(MESSAGE_LIFE) {
            let expired = channel.queue().remove_expired(oldest);
            self.reports
                .count(&channel.name, FlaskResult::Expired, expired);
        }
    }

    /// Asks Redis which messages are in the log.
    async fn forget_done(&self, channel: &BridgedChannel) -> Result<(), BrokerError> {
        let markers = channel.queue().markers(MARKERS_MAX);
        if markers.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.streams.names.flask_appended(&channel.name));
        for marker in &markers {
            command.arg(marker.as_str());
        }
        let mut session = self.streams.shards.session(&channel.name).await?;
        let counts: Vec<Option<u64>> = session.query_one(command).await?;
        let mut queue = channel.queue();
        for (marker, count) in markers.iter().zip(counts) {
            if let Some(count) = count {
                queue.remove_done(marker, count);
            }
        }
        Ok(())
    }

    /// Appends messages of one marker. An append whose outcome is unknown can be repeated.
    async fn append_batch(
        &self,
        channel: &BridgedChannel,
        batch: &[Received],
    ) -> Result<(), BrokerError> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let streams = &self.streams;
        let mut session = streams.shards.session(&channel.name).await?;
        let publisher = Publisher::default();
        let is_first = streams
            .prepare_append(publisher, &channel.name, &mut session)
            .await?;
        let messages = self.parse_batch(batch);
        let script = self.append_script(channel, is_first, last, &messages);
        let outcome = parse_outcome(session.run(&script).await?)?;
        if let (Some(last_id), Some(life)) = (outcome.last_id, outcome.life) {
            streams.record_append(&channel.name, last_id, life, session.era());
        }
        channel.queue().remove_done(&last.marker, outcome.done);
        self.count_outcome(channel, &outcome, &messages);
        Ok(())
    }

    fn parse_batch(&self, batch: &[Received]) -> Vec<(u64, Result<FlaskMessage, Rejection>)> {
        let parse = |payload: &Payload| match payload {
            Payload::Text(text) => parse_message(text, self.data_max),
            Payload::TooLarge => Err(Rejection::TooLarge),
        };
        let parsed = batch
            .iter()
            .map(|received| (received.count, parse(&received.payload)));
        parsed.collect()
    }

    fn append_script(
        &self,
        channel: &BridgedChannel,
        is_first: bool,
        last: &Received,
        messages: &[(u64, Result<FlaskMessage, Rejection>)],
    ) -> ScriptInvocation<'static> {
        let names = &self.streams.names;
        let (class, create, after_delete) = self.streams.classes.rules_of(&channel.name);
        let mut script = FLASK_APPEND.key(names.stream(&channel.name));
        script
            .key(names.flask_appended(&channel.name))
            .key(names.flask_markers(&channel.name))
            .key(names.life(&channel.name))
            .key(names.deleted(&channel.name))
            .key(&names.registration(&channel.name))
            .arg(self.streams.retention.events_max.get())
            .arg(u8::from(is_first))
            .arg(random_suffix())
            .arg(milliseconds(MARKER_LIFE))
            .arg(last.marker.as_str())
            .arg(last.count)
            .arg(channel.name.as_str())
            .arg(settings_text(class))
            .arg(u8::from(create == CreateRule::Explicit))
            .arg(u8::from(after_delete == AfterDelete::Refuse))
            .arg(milliseconds(self.streams.retention.age_max));
        for (count, message) in messages {
            if let Ok(message) = message {
                add_message(&mut script, *count, message);
            }
        }
        script
    }

    fn count_outcome(
        &self,
        channel: &BridgedChannel,
        outcome: &Outcome,
        messages: &[(u64, Result<FlaskMessage, Rejection>)],
    ) {
        let name = &channel.name;
        for (result, count) in [
            (FlaskResult::Stored, outcome.appended),
            (FlaskResult::Duplicate, outcome.duplicates),
            (FlaskResult::Echo, outcome.echoes),
            (FlaskResult::OldId, outcome.old_ids),
            (FlaskResult::Refused, outcome.refused),
        ] {
            self.reports.count(name, result, count);
        }
        self.reports.count_stored(outcome.appended);
        for (count, message) in messages {
            if let Err(rejection) = message
                && *count <= outcome.done
            {
                let result = FlaskResult::Rejected(rejection.reason());
                self.reports.count(name, result, 1);
            }
        }
    }
}

fn add_message(script: &mut ScriptInvocation<'_>, count: u64, message: &FlaskMessage) {
    let id = message.id.map_or_else(String::new, |id| id.to_string());
    script
        .arg(count)
        .arg(id)
        .arg(message.event.kind.as_str())
        .arg(message.event.data.as_bytes().as_ref());
}

impl BridgedChannel {
    /// Returns the messages that this node must append next.
    fn next_batch(&self) -> Vec<Received> {
        let queue = self.queue();
        let is_late = |at: Instant| at.elapsed() > LATE;
        let is_due = self.is_leader() || queue.size().oldest.is_some_and(is_late);
        if is_due {
            queue.oldest_batch()
        } else {
            Vec::new()
        }
    }
}

/// What `flask_append.lua` did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    appended: usize,
    duplicates: usize,
    echoes: usize,
    old_ids: usize,
    /// Id of the last appended event.
    last_id: Option<EventId>,
    /// The count up to which the messages of the marker are done.
    done: u64,
    /// Messages that the state of the channel forbids.
    refused: usize,
    /// What the script has read about the channel; `None` if there is no channel.
    life: Option<(Incarnation, ChannelSettings)>,
}

fn parse_outcome(reply: Value) -> Result<Outcome, BrokerError> {
    parse_outcome_values(reply).ok_or_else(|| malformed("an invalid reply to an append"))
}

fn parse_outcome_values(reply: Value) -> Option<Outcome> {
    let [
        appended,
        duplicates,
        echoes,
        old_ids,
        last_id,
        done,
        refused,
        incarnation,
        settings,
    ] = into_array(reply)?.try_into().ok()?;
    Some(Outcome {
        appended: parse_number(&appended)?,
        duplicates: parse_number(&duplicates)?,
        echoes: parse_number(&echoes)?,
        old_ids: parse_number(&old_ids)?,
        last_id: parse_id(last_id),
        done: parse_number(&done)?,
        refused: parse_number(&refused)?,
        life: parse_life(&incarnation, &settings),
    })
}

fn parse_life(incarnation: &Value, settings: &Value) -> Option<(Incarnation, ChannelSettings)> {
    let text = |value| redis::from_redis_value_ref::<String>(value).ok();
    let incarnation = Incarnation(text(incarnation)?.parse().ok()?);
    Some((incarnation, parse_settings(&text(settings)?)?))
}

fn parse_number<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    match value {
        Value::Int(number) => T::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_numbers_an_id_and_the_state_of_the_channel() {
        let text = |text: &str| Value::BulkString(text.into());
        let reply = |id: &str, incarnation: &str| {
            let [one, two, three, four, nine, five] = [1, 2, 3, 4, 9, 5].map(Value::Int);
            let (id, incarnation) = (text(id), text(incarnation));
            let settings = text("- - - 5 -");
            Value::Array(vec![
                one,
                two,
                three,
                four,
                id,
                nine,
                five,
                incarnation,
                settings,
            ])
        };
        let expected = Outcome {
            appended: 1,
            duplicates: 2,
            echoes: 3,
            old_ids: 4,
            last_id: Some(EventId::new(7, 0)),
            done: 9,
            refused: 5,
            life: parse_settings("- - - 5 -").map(|settings| (Incarnation(6), settings)),
        };
        assert_eq!(parse_outcome(reply("7-0", "6")).unwrap(), expected);
        let without = parse_outcome(reply("", "")).unwrap();
        assert_eq!((without.last_id, without.life), (None, None));
        for bad in [Value::Nil, Value::Array(vec![Value::Int(1)])] {
            assert!(parse_outcome(bad).is_err());
        }
    }
}
