//! Publishing exactly once over Redis: one script that looks up, appends, keeps the keys and rings.
//!
//! Its keys lie in the slot of the channel: the stream `sse:{channel}`, the hash `sse:{channel}:keys` and the sorted
//! set `sse:{channel}:expiries`. These two have no time to live: a Redis that evicts what has one when it is full would forget
//! keys too early. Publishes forget what has expired, and so does `retention` where there are none.
//!
//! A Redis that has forgotten the script says so and is given it, which is no resending: it did
//! nothing. Any other error is final here, as it is for every publish; the caller may come again with its keys.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, Value};
use sse_proto::{Channel, EventId};

use super::{
    connection::Session,
    failover::random_suffix,
    streams::{Log, added_id, refused},
};
use crate::broker::{
    Appended, BrokerError,
    idempotency::{AppendItem, AppendOutcome},
};

const EXPIRE_KEYS: &str = include_str!("scripts/expire_keys.lua");
static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[EXPIRE_KEYS, include_str!("scripts/append_idempotent.lua")].concat())
});
static EXPIRE: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[EXPIRE_KEYS, "return expire_keys(tonumber(ARGV[1]))"].concat()));

/// Expired keys that [`Log::expire_keys`] forgets at once: a millisecond or two of Redis' time.
const EXPIRE_BATCH: usize = 1000;

impl Log {
    pub(super) async fn append_idempotent(
        &self,
        channel: &Channel,
        items: &[AppendItem],
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        self.append_items(channel, items, &mut self.connection.session().await?)
            .await
    }

    pub(super) async fn append_items(
        &self,
        channel: &Channel,
        items: &[AppendItem],
        session: &mut Session<'_>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let has_begun = self.has_begun(channel, session);
        if !has_begun {
            self.register(channel, session).await?;
        }
        let limits = self.retention.keys;
        let mut script = APPEND.prepare_invoke();
        script
            .key(self.names.keys(channel))
            .key(self.names.expiries(channel))
            .key(self.names.stream(channel));
        script
            .arg(limits.window_ms())
            .arg(limits.keys_max)
            .arg(self.retention.events_max.get());
        script.arg(u8::from(!has_begun)).arg(random_suffix());
        for item in items {
            match item.idempotency {
                Some(idempotency) => script
                    .arg(idempotency.key.number().to_be_bytes().as_slice())
                    .arg(idempotency.content.number().to_be_bytes().as_slice()),
                None => script.arg("").arg(""),
            };
            script.arg(item.events.len());
            for event in &item.events {
                script
                    .arg(event.kind.as_str())
                    .arg(event.data.as_bytes().as_ref());
            }
        }
        let answer: Value = session
            .run(&script)
            .await?
            .map_err(|error| refused(&error))?;
        let placed = answer_of(answer, limits.keys_max)?;
        if placed.len() != items.len() {
            return Err(senseless());
        }
        if let Some(last) = placed.iter().map(|placed| placed.ids.last).max() {
            self.losses.observe(channel, last, session.era());
        }
        if placed.iter().any(|placed| !placed.duplicate) {
            self.begin(channel, session);
        }
        Ok(placed)
    }

    /// Forgets a bounded number of expired keys; returns whether there may be more.
    pub(super) async fn expire_keys(&self, channel: &Channel) -> Result<bool, BrokerError> {
        let mut script = EXPIRE.prepare_invoke();
        script
            .key(self.names.keys(channel))
            .key(self.names.expiries(channel))
            .arg(EXPIRE_BATCH);
        let forgotten: usize = self
            .connection
            .session()
            .await?
            .run(&script)
            .await?
            .map_err(|error| refused(&error))?;
        Ok(forgotten == EXPIRE_BATCH)
    }
}

/// What the script answered.
fn answer_of(answer: Value, keys_max: usize) -> Result<Vec<AppendOutcome>, BrokerError> {
    let Value::Array(mut answer) = answer else {
        return Err(senseless());
    };
    if answer.is_empty() {
        return Err(senseless());
    }
    let rest = answer.split_off(1);
    let number = |value: Option<&Value>| match value {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Some(Value::BulkString(word)) = answer.pop() else {
        return Err(senseless());
    };
    match word.as_slice() {
        b"placed" => rest
            .chunks(3)
            .map(|item| parse_outcome(item).ok_or_else(senseless))
            .collect(),
        b"reused" => {
            let item = number(rest.first())
                .and_then(|item| usize::try_from(item).ok())
                .ok_or_else(senseless)?;
            Err(BrokerError::KeyReused { item })
        }
        b"full" => {
            let expires_in = Duration::from_millis(number(rest.first()).unwrap_or(0));
            Err(BrokerError::TooManyKeys {
                keys_max,
                expires_in,
            })
        }
        _ => {
            let why: String = rest
                .into_iter()
                .next()
                .and_then(|why| redis::from_redis_value(why).ok())
                .unwrap_or_default();
            Err(BrokerError::OutcomeUnknown(format!(
                "Redis stopped in the middle: {why}"
            )))
        }
    }
}

fn parse_outcome(item: &[Value]) -> Option<AppendOutcome> {
    let [first, last, repeated] = item else {
        return None;
    };
    let id = |value: &Value| -> Option<EventId> { added_id(value.clone()).ok() };
    let ids = Appended {
        first: id(first)?,
        last: id(last)?,
    };
    Some(AppendOutcome {
        ids,
        duplicate: *repeated == Value::Int(1),
    })
}

fn senseless() -> BrokerError {
    BrokerError::OutcomeUnknown(
        "Redis gave an answer that makes no sense to a publish with a key".to_owned(),
    )
}
