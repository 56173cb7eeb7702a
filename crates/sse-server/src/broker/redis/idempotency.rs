//! The arguments and the reply of `scripts/append_idempotent.lua`.
//!
//! The script looks up keys, appends, records the keys and notifies, in one step. Its header has
//! the table of arguments and replies. The hash and the sorted set of keys have no time to live: a
//! Redis that evicts keys with a time to live when it is full would forget them too early. Appends
//! forget expired keys, and `retention` forgets those of channels without appends.
//!
//! Any error of the script is final here, as for every publish. The publisher may send the same
//! items again with their keys.

use std::time::Duration;

use redis::{Cmd, ScriptInvocation, Value};
use sse_proto::{Channel, Event, EventId};

use super::{
    names::Names,
    replies::parse_added_id,
    scripts::{APPEND_IDEMPOTENT, EXPIRE_KEYS, random_suffix},
};
use crate::broker::{
    Appended, BrokerError, Retention,
    idempotency::{AppendItem, AppendOutcome, Fingerprint, IdempotencyKey},
    publisher::KeyOwner,
};

/// Expired keys that [`expire_keys_script`] forgets at once: 1–2 ms of Redis' time.
pub(super) const EXPIRE_BATCH: usize = 1000;

/// The script that forgets up to [`EXPIRE_BATCH`] expired keys of `channel`.
pub(super) fn expire_keys_script(names: &Names, channel: &Channel) -> ScriptInvocation<'static> {
    let mut script = EXPIRE_KEYS.key(&names.idempotency(channel));
    script.arg(EXPIRE_BATCH);
    script
}

/// How an append runs its script.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppendMode {
    /// This is the first append to the channel in the era of the connection.
    pub(super) is_first: bool,
    /// The caller waits for replicas, and notifies by itself.
    pub(super) waits: bool,
}

impl AppendMode {
    const fn argument(self) -> &'static str {
        match (self.is_first, self.waits) {
            (false, false) => "0",
            (true, false) => "1",
            (false, true) => "0w",
            (true, true) => "1w",
        }
    }
}

/// The `EVALSHA` of the script with its arguments up to the items, which [`add_items`] adds.
///
/// `held_keys` is `None` if the client has no limit of its own.
pub(super) fn append_script(
    names: &Names,
    channel: &Channel,
    retention: &Retention,
    mode: AppendMode,
    held_keys: Option<u64>,
) -> Cmd {
    let mut script = redis::cmd("EVALSHA");
    script
        .arg(APPEND_IDEMPOTENT.get_hash())
        .arg(3)
        .arg(&names.idempotency(channel))
        .arg(names.stream(channel))
        .arg(retention.keys.window_ms())
        .arg(retention.keys.keys_max)
        .arg(retention.events_max.get())
        .arg(mode.argument())
        .arg(random_suffix())
        .arg(held_keys.map_or_else(String::new, |held| held.to_string()));
    script
}

pub(super) fn add_items(script: &mut Cmd, owner: KeyOwner, items: &[AppendItem]) {
    script.arg(format!("{:016x}", owner.number()));
    for item in items {
        add_key(script, owner, item.idempotency);
        add_events(script, &item.events);
    }
}

fn add_key(script: &mut Cmd, owner: KeyOwner, idempotency: Option<IdempotencyKey>) {
    if let Some(key) = idempotency {
        add_fingerprints(script, [key.key, key.key.owned_by(owner), key.content]);
    } else {
        script.arg("").arg("").arg("");
    }
}

fn add_fingerprints(script: &mut Cmd, fingerprints: [Fingerprint; 3]) {
    for fingerprint in fingerprints {
        script.arg(fingerprint.number().to_be_bytes().as_slice());
    }
}

fn add_events(script: &mut Cmd, events: &[Event]) {
    script.arg(events.len());
    for event in events {
        add_event(script, event);
    }
}

fn add_event(script: &mut Cmd, event: &Event) {
    script
        .arg(event.kind.as_str())
        .arg(event.data.as_bytes().as_ref());
}

/// Parses the reply to an append of `items` items.
///
/// `client_is_full` makes the error if the client has its part of the keys.
///
/// # Errors
///
/// - `KeyReused`, `TooManyKeys`, `TooManyKeysOfClient`: nothing was appended.
/// - `OutcomeUnknown`: the script was interrupted, or the reply is malformed.
pub(super) fn parse_append_reply(
    reply: Value,
    items: usize,
    keys_max: usize,
    client_is_full: impl FnOnce() -> BrokerError,
) -> Result<Vec<AppendOutcome>, BrokerError> {
    let Value::Array(reply) = reply else {
        return Err(malformed());
    };
    let Some((Value::BulkString(word), values)) = reply.split_first() else {
        return Err(malformed());
    };
    match (word.as_slice(), values) {
        (b"appended", outcomes) => parse_appended(outcomes, items),
        (b"idempotency_key_reused", [item]) => Err(key_reused(item)),
        (b"too_many_idempotency_keys", [expires_in]) => Err(BrokerError::TooManyKeys {
            keys_max,
            expires_in: Duration::from_millis(parse_number(expires_in).unwrap_or(0)),
        }),
        (b"too_many_idempotency_keys_of_client", []) => Err(client_is_full()),
        (b"interrupted", [error]) => Err(interrupted(error)),
        _ => Err(malformed()),
    }
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

/// Parses the outcomes of `items` items; any other number of outcomes is malformed.
fn parse_appended(outcomes: &[Value], items: usize) -> Result<Vec<AppendOutcome>, BrokerError> {
    parse_outcomes(outcomes)
        .filter(|outcomes| outcomes.len() == items)
        .ok_or_else(malformed)
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

    fn reply(values: &[Value], items: usize) -> Result<Vec<AppendOutcome>, BrokerError> {
        parse_append_reply(
            Value::Array(values.to_vec()),
            items,
            KEYS_MAX,
            client_is_full,
        )
    }

    #[test]
    fn every_item_gets_its_ids_and_whether_it_is_a_duplicate() {
        let outcomes = reply(
            &[
                word("appended"),
                word("1-0"),
                word("1-2"),
                Value::Int(0),
                word("9-0"),
                word("9-0"),
                Value::Int(1),
            ],
            2,
        );
        let outcome = |first, last, duplicate| AppendOutcome {
            ids: Appended { first, last },
            duplicate,
        };
        let (nine, id) = (EventId::new(9, 0), EventId::new);
        assert_eq!(
            outcomes.unwrap(),
            [
                outcome(id(1, 0), id(1, 2), false),
                outcome(nine, nine, true)
            ]
        );
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
            &[word("appended")],
            &[word("appended"), id(), id()],
            &[word("appended"), id(), word("x"), no()],
            &[word("appended"), id(), id(), no(), id()],
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
        let nil = parse_append_reply(Value::Nil, 1, KEYS_MAX, client_is_full);
        assert!(matches!(nil, Err(BrokerError::OutcomeUnknown(_))));
    }
}
