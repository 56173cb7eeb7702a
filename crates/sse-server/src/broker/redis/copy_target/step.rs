//! The arguments of `scripts/copy.lua`, and its reply.

use redis::{Cmd, Value};
use sse_proto::EventId;

use super::super::{
    names::Names,
    replies::{into_array, malformed, text},
    scripts::{COPY, random_suffix},
    settings_text::settings_text,
};
use crate::broker::{
    BrokerError,
    transfer::{
        SourceChannel, SourceDeletion, SourceEnd, SourceKey, SourcePage, SourceRecord, SourceState,
    },
};

/// The word at the end of a tombstone that a copy has written, in place of the incarnation.
pub(super) const COPIED: &str = "copied";

/// A step of the copy of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// The last id of the copy so far; `None` without a copy.
    pub(crate) expected: Option<EventId>,
    /// Whether that copy is deleted first.
    pub(crate) replaces: bool,
    /// The channel, which may be deleted.
    pub(crate) channel: &'a SourceChannel,
    pub(crate) records: &'a [SourceRecord],
    pub(crate) keys: &'a [SourceKey],
    /// The id up to which the channel is copied after this step.
    pub(crate) position: EventId,
    /// Whether the step also copies the state.
    pub(crate) is_last: bool,
}

impl<'a> Step<'a> {
    /// The step that copies a page.
    pub(crate) fn of_page(page: &'a SourcePage, expected: Option<EventId>, replaces: bool) -> Self {
        Self {
            expected,
            replaces,
            channel: &page.channel,
            records: &page.records,
            keys: &page.keys,
            position: page.end,
            is_last: !page.more,
        }
    }

    /// The step that copies only the state, or the deletion, of a channel.
    pub(crate) fn of_state(channel: &'a SourceChannel, expected: Option<EventId>) -> Self {
        let last = channel.state.as_ref().map(|state| state.last);
        Self {
            expected,
            replaces: false,
            channel,
            records: &[],
            keys: &[],
            position: last.unwrap_or_default(),
            is_last: true,
        }
    }
}

/// The `EVALSHA` of the script.
pub(super) fn copy_script(names: &Names, step: &Step<'_>) -> Cmd {
    let channel = &step.channel.channel;
    let state = step.channel.state.as_ref();
    let optional = |id: Option<EventId>| id.map_or_else(String::new, |id| id.to_string());
    let mut script = redis::cmd("EVALSHA");
    script
        .arg(COPY.of(names).get_hash())
        .arg(11)
        .arg(&names.deletion(channel))
        .arg(channel.as_str())
        .arg(optional(step.expected))
        .arg(u8::from(step.replaces))
        .arg(optional(state.map(|state| state.start)))
        .arg(step.position.to_string())
        .arg(u8::from(step.is_last))
        .arg(
            step.channel
                .deletion
                .map_or_else(String::new, tombstone_text),
        )
        .arg(settings_text(
            state.map(SourceState::settings).unwrap_or_default(),
        ))
        .arg(state.map_or(0, |state| state.alive_ms))
        .arg(
            state
                .and_then(|state| state.end.as_ref())
                .map_or_else(String::new, end_text),
        )
        .arg(optional(state.and_then(|state| state.trimmed)))
        .arg(optional(state.and_then(|state| state.oldest)))
        .arg(state.map_or(0, |state| state.records))
        .arg(random_suffix())
        .arg(step.keys.len());
    for key in step.keys {
        add_key(&mut script, key);
    }
    for record in step.records {
        add_record(&mut script, record);
    }
    script
}

fn add_key(script: &mut Cmd, key: &SourceKey) {
    let SourceKey {
        expires_ms,
        first,
        last,
        owner,
        ..
    } = key;
    let mut value = format!("{expires_ms} {first} {last} {owner:016x} ").into_bytes();
    value.extend_from_slice(&key.content.0.to_be_bytes());
    script
        .arg(key.key.0.to_be_bytes().as_slice())
        .arg(*expires_ms)
        .arg(value);
}

fn add_record(script: &mut Cmd, record: &SourceRecord) {
    script.arg(record.id.to_string());
    match &record.event {
        Some(event) => {
            let lost_after = event.lost_after.map(|after| after.to_string());
            script
                .arg(&event.kind)
                .arg(&event.data)
                .arg(lost_after.unwrap_or_default());
        }
        None => {
            script.arg("").arg("").arg("");
        }
    }
}

/// The member of the sorted set of tombstones.
fn tombstone_text(deletion: SourceDeletion) -> String {
    let SourceDeletion {
        last,
        end,
        at,
        has_events,
    } = deletion;
    format!("{last} {end} {at} {} {COPIED}", u8::from(has_events))
}

/// The field `end` of the hash.
fn end_text(end: &SourceEnd) -> String {
    let SourceEnd {
        id,
        after,
        has_events,
        reason,
    } = end;
    format!("{id} {after} {} {reason}", u8::from(*has_events))
}

/// What a step has found or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepReply {
    /// The copy has this number of records now.
    Copied { records: u64 },
    /// The channel exists and is no copy.
    NotEmpty,
    /// Another step has come before.
    Moved,
    /// The copy has another number of records than the log.
    Differs { records: u64 },
}

/// Parses the reply of the script.
pub(super) fn parse_reply(reply: Value) -> Result<StepReply, BrokerError> {
    parse_words(reply).ok_or_else(|| malformed("no result of a copy"))
}

fn parse_words(reply: Value) -> Option<StepReply> {
    let mut values = into_array(reply)?.into_iter();
    let word = text(values.next()?)?;
    let count = |value: Option<Value>| match value {
        Some(Value::Int(number)) => u64::try_from(number).ok(),
        _ => None,
    };
    Some(match word.as_str() {
        "copied" => StepReply::Copied {
            records: count(values.nth(1))?,
        },
        "not_empty" => StepReply::NotEmpty,
        "moved" => StepReply::Moved,
        "differs" => StepReply::Differs {
            records: count(values.next())?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(word: &str, values: &[Value]) -> Value {
        let word = Value::BulkString(word.as_bytes().to_vec());
        Value::Array([&[word], values].concat())
    }

    #[test]
    fn a_reply_is_a_word_and_its_values() {
        let id = Value::BulkString(b"5-0".to_vec());
        for (word, values, expected) in [
            (
                "copied",
                vec![id.clone(), Value::Int(3)],
                Some(StepReply::Copied { records: 3 }),
            ),
            ("moved", vec![id], Some(StepReply::Moved)),
            ("not_empty", vec![], Some(StepReply::NotEmpty)),
            (
                "differs",
                vec![Value::Int(4)],
                Some(StepReply::Differs { records: 4 }),
            ),
            ("copied", vec![], None),
            ("other", vec![], None),
        ] {
            assert_eq!(parse_reply(reply(word, &values)).ok(), expected, "{word}");
        }
        assert!(parse_reply(Value::Nil).is_err());
    }

    #[test]
    fn a_tombstone_of_a_copy_reads_back() {
        let deletion = SourceDeletion {
            last: EventId::new(1, 2),
            end: EventId::new(3, 0),
            at: EventId::new(4, 5),
            has_events: true,
        };
        let text = tombstone_text(deletion);
        let tombstone = super::super::super::channel_state::parse_tombstone(&text);
        assert_eq!(tombstone.map(SourceDeletion::from), Some(deletion));
    }
}
