//! The stored revocations in Redis: one hash, whose fields are the texts and the `version`.
//!
//! The version is random, so that it differs even if a failover lost the last change and another
//! node made one meanwhile.

use std::collections::HashMap;

use redis::{Cmd, Value, cmd};
use uuid::Uuid;

use super::{
    RedisBroker,
    replies::{check_rejection, malformed},
    session::Session,
};
use crate::broker::{
    BrokerError,
    revocations::{RevocationChange, RevocationSet, StoredRevocation, TEXTS_MAX, set_is_full},
};

/// The field with the version. No text equals it, because texts are JSON objects.
const VERSION: &str = "version";

impl RedisBroker {
    pub(in crate::broker) async fn change_revocations(
        &self,
        change: RevocationChange,
    ) -> Result<(), BrokerError> {
        let key = self.streams.names.revocations();
        let mut session = self.streams.shards.key_session(&key).await?;
        if !change.remove.is_empty() {
            let mut remove = cmd("HDEL");
            remove.arg(&key).arg(&change.remove);
            let _: u64 = session.query_one(remove).await?;
        }
        if change.add.is_empty() {
            return Ok(());
        }
        check_room(&mut session, &key, change.add.len()).await?;
        let _: u64 = session.query_one(add_command(&key, &change.add)).await?;
        Ok(())
    }

    pub(in crate::broker) async fn read_revocations(
        &self,
        known: Option<&str>,
    ) -> Result<Option<RevocationSet>, BrokerError> {
        let key = self.streams.names.revocations();
        let mut session = self.streams.shards.key_session(&key).await?;
        let mut version = cmd("HGET");
        version.arg(&key).arg(VERSION);
        let version: Option<String> = session.query_one(version).await?;
        if known == Some(version.as_deref().unwrap_or_default()) {
            return Ok(None);
        }
        let mut all = cmd("HGETALL");
        all.arg(&key);
        let [fields] = session.query_values([all]).await?;
        parse_set(fields).map(Some)
    }
}

/// Adds the texts and changes the version in one step.
pub(super) fn add_command(key: &str, entries: &[StoredRevocation]) -> Cmd {
    let mut add = cmd("HSET");
    add.arg(key);
    for entry in entries {
        add.arg(&entry.text).arg(entry.until_ms);
    }
    add.arg(VERSION).arg(Uuid::new_v4().to_string());
    add
}

/// Two nodes that add at the same time may exceed the limit by a few texts.
async fn check_room(session: &mut Session<'_>, key: &str, added: usize) -> Result<(), BrokerError> {
    let mut count = cmd("HLEN");
    count.arg(key);
    let stored: usize = session.query_one(count).await?;
    if stored.saturating_add(added) > TEXTS_MAX + 1 {
        return Err(set_is_full());
    }
    Ok(())
}

/// Parses the reply to `HGETALL`. A text whose time is not a number stays for ever: a revocation
/// must not end because another program wrote to the hash.
fn parse_set(reply: Value) -> Result<RevocationSet, BrokerError> {
    let fields: HashMap<String, String> = redis::from_redis_value(check_rejection(reply)?)
        .map_err(|_| malformed("no map for an HGETALL"))?;
    let mut set = RevocationSet::default();
    for (text, value) in fields {
        if text == VERSION {
            set.version = value;
        } else {
            let until_ms = value.parse().unwrap_or(u64::MAX);
            set.entries.push(StoredRevocation { text, until_ms });
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_reply_is_a_set_and_its_version() {
        let reply = Value::Map(vec![
            (text("version"), text("v1")),
            (text("{\"key\":\"a\"}"), text("18446744073709551615")),
            (text("{\"key\":\"b\"}"), text("soon")),
        ]);
        let mut set = parse_set(reply).unwrap();
        set.entries.sort_by(|one, other| one.text.cmp(&other.text));
        assert_eq!(set.version, "v1");
        assert_eq!(set.entries.len(), 2);
        assert!(set.entries.iter().all(|entry| entry.until_ms == u64::MAX));
        assert_eq!(
            parse_set(Value::Map(Vec::new())).unwrap(),
            RevocationSet::default()
        );
        assert!(parse_set(text("x")).is_err());
    }
}
