//! The reply of `scripts/write.lua`, whose header has the table of replies.

use std::time::Duration;

use redis::Value;
use sse_proto::EventId;

use super::{replies::parse_added_id, settings_text::parse_settings};
use crate::broker::{
    Appended, BrokerError,
    idempotency::AppendOutcome,
    lifecycle::{ChannelSettings, CloseReason, Incarnation, Written},
};

/// The result of a write, and the settings of its channel.
pub(super) struct ScriptWritten {
    pub(super) written: Written,
    pub(super) settings: ChannelSettings,
}

/// Parses the reply to a write of `items` items.
///
/// `client_is_full` makes the error if the client has its part of the keys.
///
/// # Errors
///
/// - `OutcomeUnknown`: the script was interrupted, or the reply is malformed.
/// - Any other: nothing was stored.
pub(super) fn parse_write_reply(
    reply: Value,
    items: usize,
    keys_max: usize,
    client_is_full: impl FnOnce() -> BrokerError,
) -> Result<ScriptWritten, BrokerError> {
    let Value::Array(reply) = reply else {
        return Err(malformed());
    };
    let Some((Value::BulkString(word), values)) = reply.split_first() else {
        return Err(malformed());
    };
    match (word.as_slice(), values) {
        (b"written", values) => parse_written(values, items).ok_or_else(malformed),
        (b"idempotency_key_reused", [item]) => Err(key_reused(item)),
        (b"too_many_idempotency_keys", [expires_in]) => Err(BrokerError::TooManyKeys {
            keys_max,
            expires_in: Duration::from_millis(parse_number(expires_in).unwrap_or(0)),
        }),
        (b"too_many_idempotency_keys_of_client", []) => Err(client_is_full()),
        (b"interrupted", [error]) => Err(interrupted(error)),
        (word, values) => Err(parse_refusal(word, values).unwrap_or_else(malformed)),
    }
}

/// Parses why the state of the channel forbids a write.
fn parse_refusal(word: &[u8], values: &[Value]) -> Option<BrokerError> {
    Some(match (word, values) {
        (b"channel_deleted", []) => BrokerError::ChannelDeleted,
        (b"deleted_recently", []) => BrokerError::DeletedRecently,
        (b"no_such_channel", []) => BrokerError::NoSuchChannel,
        (b"condition_failed", [newest]) => BrokerError::ConditionFailed {
            newest: parse_id(newest)?,
        },
        (b"channel_closed", [reason, end]) => channel_closed(reason, end)?,
        _ => return None,
    })
}

/// The error of a write to a closed channel.
pub(super) fn channel_closed(reason: &Value, end: &Value) -> Option<BrokerError> {
    Some(BrokerError::ChannelClosed {
        reason: CloseReason::of_stored(&parse_text(reason)?).ok()?,
        end: parse_id(end)?,
    })
}

fn parse_written(values: &[Value], items: usize) -> Option<ScriptWritten> {
    let [newest, end, incarnation, settings, outcomes @ ..] = values else {
        return None;
    };
    let outcomes = parse_outcomes(outcomes).filter(|outcomes| outcomes.len() == items)?;
    let written = Written {
        newest: parse_id(newest)?,
        end: match parse_text(end)?.as_str() {
            "" => None,
            id => Some(id.parse().ok()?),
        },
        incarnation: Incarnation(parse_text(incarnation)?.parse().ok()?),
        outcomes,
    };
    Some(ScriptWritten {
        written,
        settings: parse_settings(&parse_text(settings)?)?,
    })
}

fn parse_text(value: &Value) -> Option<String> {
    redis::from_redis_value_ref(value).ok()
}

fn key_reused(item: &Value) -> BrokerError {
    match parse_number(item).map(usize::try_from) {
        Some(Ok(item)) => BrokerError::KeyReused { item },
        _ => malformed(),
    }
}

fn interrupted(error: &Value) -> BrokerError {
    let error: String = redis::from_redis_value_ref(error).unwrap_or_default();
    BrokerError::OutcomeUnknown(format!("Redis was interrupted during the append: {error}"))
}

/// Three values per item; see the header of the script.
fn parse_outcomes(values: &[Value]) -> Option<Vec<AppendOutcome>> {
    let (outcomes, []) = values.as_chunks() else {
        return None;
    };
    outcomes.iter().map(parse_outcome).collect()
}

fn parse_outcome([first, last, is_duplicate]: &[Value; 3]) -> Option<AppendOutcome> {
    Some(AppendOutcome {
        ids: parse_ids(first, last)?,
        duplicate: *is_duplicate == Value::Int(1),
    })
}

fn parse_ids(first: &Value, last: &Value) -> Option<Appended> {
    Some(Appended {
        first: parse_id(first)?,
        last: parse_id(last)?,
    })
}

fn parse_id(value: &Value) -> Option<EventId> {
    parse_added_id(value.clone()).ok()
}

fn parse_number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn malformed() -> BrokerError {
    BrokerError::OutcomeUnknown("Redis sent an invalid reply to an append".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS_MAX: usize = 100;

    fn client_is_full() -> BrokerError {
        BrokerError::TooManyKeysOfClient {
            held: 7,
            expires_in: Duration::from_secs(1),
        }
    }

    fn word(word: &str) -> Value {
        Value::BulkString(word.as_bytes().to_vec())
    }

    fn reply(values: &[Value], items: usize) -> Result<Written, BrokerError> {
        let reply = Value::Array(values.to_vec());
        let parsed = parse_write_reply(reply, items, KEYS_MAX, client_is_full);
        parsed.map(|parsed| parsed.written)
    }

    /// The beginning of the reply to a write that was carried out.
    fn head(newest: &str, end: &str) -> Vec<Value> {
        [
            b"written".as_slice(),
            newest.as_bytes(),
            end.as_bytes(),
            b"7",
            b"- - - 5 -",
        ]
        .map(|text| Value::BulkString(text.to_vec()))
        .to_vec()
    }

    #[test]
    fn every_item_gets_its_ids_and_whether_it_is_a_duplicate() {
        let mut values = head("10-0", "10-0");
        let ids = ["1-0", "1-2", "9-0", "9-0"].map(word);
        let [first, last, duplicate_first, duplicate_last] = ids;
        values.extend([first, last, Value::Int(0)]);
        values.extend([duplicate_first, duplicate_last, Value::Int(1)]);
        let written = reply(&values, 2).unwrap();
        let outcome = |first, last, duplicate| AppendOutcome {
            ids: Appended { first, last },
            duplicate,
        };
        let (nine, id) = (EventId::new(9, 0), EventId::new);
        assert_eq!(
            written.outcomes,
            [
                outcome(id(1, 0), id(1, 2), false),
                outcome(nine, nine, true)
            ]
        );
        assert_eq!((written.newest, written.end), (id(10, 0), Some(id(10, 0))));
        assert_eq!(written.incarnation, Incarnation(7));
    }

    #[test]
    fn a_rejected_append_names_the_key_or_the_limit() {
        assert!(matches!(
            reply(&[word("idempotency_key_reused"), Value::Int(3)], 5),
            Err(BrokerError::KeyReused { item: 3 })
        ));
        let full = reply(&[word("too_many_idempotency_keys"), Value::Int(1500)], 1);
        assert!(matches!(
            full,
            Err(BrokerError::TooManyKeys { keys_max: KEYS_MAX, expires_in })
                if expires_in == Duration::from_millis(1500)
        ));
        let of_client = reply(&[word("too_many_idempotency_keys_of_client")], 1);
        assert!(matches!(
            of_client,
            Err(BrokerError::TooManyKeysOfClient { held: 7, .. })
        ));
    }

    #[test]
    fn an_interrupted_append_has_an_unknown_outcome() {
        assert!(matches!(
            reply(&[word("interrupted"), word("OOM")], 1),
            Err(BrokerError::OutcomeUnknown(text)) if text.contains("OOM")
        ));
    }

    #[test]
    fn a_malformed_reply_has_an_unknown_outcome() {
        let id = || word("1-0");
        let no = || Value::Int(0);
        for values in [
            &[][..],
            &[Value::Int(1)],
            &[word("other")],
            &[word("written")],
            &[&head("1-0", "")[..], &[id(), id()]].concat(),
            &[&head("1-0", "")[..], &[id(), word("x"), no()]].concat(),
            &[&head("1-0", "")[..], &[id(), id(), no(), id()]].concat(),
            &[&head("x", "")[..], &[id(), id(), no()]].concat(),
            &[word("condition_failed")],
            &[word("channel_closed"), word("UPPER"), id()],
            &[word("idempotency_key_reused")],
            &[word("idempotency_key_reused"), Value::Int(-1)],
            &[word("idempotency_key_reused"), word("0")],
            &[word("too_many_idempotency_keys")],
            &[word("interrupted")],
        ] {
            let reply = reply(values, 1);
            assert!(
                matches!(reply, Err(BrokerError::OutcomeUnknown(_))),
                "{values:?}"
            );
        }
        let nil = parse_write_reply(Value::Nil, 1, KEYS_MAX, client_is_full).map(|_| ());
        assert!(matches!(nil, Err(BrokerError::OutcomeUnknown(_))));
    }
}
