//! The reports of the nodes in Redis: one hash, with a field per node.
//!
//! One key instead of one per node needs no search over all keys, and lies in one slot of a cluster.
//! A field has no time to live on every Redis that is supported, so its value begins with the time of
//! the report, and each report removes fields that are too old. The hash itself expires after the
//! last report.

use std::{collections::HashMap, time::Duration};

use redis::{Value, cmd};

use super::{
    RedisBroker,
    replies::{check_rejection, malformed},
    scripts::milliseconds,
};
use crate::broker::{BrokerError, nodes::StoredReport};

/// How long a report is valid. Nodes report every five seconds.
const VALID: Duration = Duration::from_secs(16);
/// Fields that the hash may have. Beyond it the hash is deleted, and the nodes report again.
const FIELDS_MAX: u64 = 1000;

impl RedisBroker {
    pub(in crate::broker) async fn report_node(
        &self,
        node: &str,
        text: &str,
    ) -> Result<(), BrokerError> {
        let now_ms = self.now_ms().await?;
        let key = self.streams.names.nodes();
        let mut session = self.streams.shards.key_session(&key).await?;
        let (mut set, mut expire, mut count) = (cmd("HSET"), cmd("PEXPIRE"), cmd("HLEN"));
        set.arg(&key).arg(node).arg(format!("{now_ms} {text}"));
        expire.arg(&key).arg(milliseconds(VALID));
        count.arg(&key);
        let [set, expire, count] = session.query_values([set, expire, count]).await?;
        check_rejection(set)?;
        check_rejection(expire)?;
        let count: u64 = redis::from_redis_value(check_rejection(count)?)
            .map_err(|_| malformed("no number for an HLEN"))?;
        if count > FIELDS_MAX {
            let mut delete = cmd("UNLINK");
            delete.arg(&key);
            let _: u64 = session.query_one(delete).await?;
            return Ok(());
        }
        let mut all = cmd("HGETALL");
        all.arg(&key);
        let [fields] = session.query_values([all]).await?;
        let old = old_fields(parse_fields(fields)?, now_ms);
        if !old.is_empty() {
            let mut remove = cmd("HDEL");
            remove.arg(&key).arg(&old);
            let _: u64 = session.query_one(remove).await?;
        }
        Ok(())
    }

    pub(in crate::broker) async fn node_reports(&self) -> Result<Vec<StoredReport>, BrokerError> {
        let now_ms = self.now_ms().await?;
        let key = self.streams.names.nodes();
        let mut session = self.streams.shards.key_session(&key).await?;
        let mut count = cmd("HLEN");
        count.arg(&key);
        let count: u64 = session.query_one(count).await?;
        if count > FIELDS_MAX {
            return Ok(Vec::new());
        }
        let mut all = cmd("HGETALL");
        all.arg(&key);
        let [fields] = session.query_values([all]).await?;
        let fields = parse_fields(fields)?.into_iter();
        let valid = fields.filter_map(|(node, value)| report(node, &value, now_ms));
        Ok(valid.collect())
    }
}

/// Parses the fields of the hash.
pub(super) fn parse_fields(reply: Value) -> Result<HashMap<String, String>, BrokerError> {
    redis::from_redis_value(check_rejection(reply)?).map_err(|_| malformed("no map for an HGETALL"))
}

/// Returns the report in a field; `None` if it is too old or is no report.
pub(super) fn report(node: String, value: &str, now_ms: u64) -> Option<StoredReport> {
    let (reported_ms, text) = value.split_once(' ')?;
    let age_ms = now_ms.saturating_sub(reported_ms.parse().ok()?);
    (u128::from(age_ms) <= VALID.as_millis()).then(|| StoredReport {
        node,
        text: text.to_owned(),
        age_ms,
    })
}

fn old_fields(fields: HashMap<String, String>, now_ms: u64) -> Vec<String> {
    let is_old = |(node, value): (String, String)| {
        report(node.clone(), &value, now_ms)
            .is_none()
            .then_some(node)
    };
    fields.into_iter().filter_map(is_old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_valid_for_some_seconds() {
        let found = report("a".to_owned(), "1000 {} x", 3000).unwrap();
        assert_eq!((&*found.text, found.age_ms), ("{} x", 2000));
        // The clock of Redis was set back.
        assert_eq!(report("a".to_owned(), "9000 x", 3000).unwrap().age_ms, 0);
        for (value, now_ms) in [("1000 x", 18_000), ("x y", 0), ("1000", 1000)] {
            assert_eq!(report("a".to_owned(), value, now_ms), None, "{value}");
        }
        let fields = [("a", "1000 x"), ("b", "17000 x"), ("c", "nonsense")];
        let fields = fields.map(|(node, value)| (node.to_owned(), value.to_owned()));
        let mut old = old_fields(fields.into(), 18_000);
        old.sort();
        assert_eq!(old, ["a", "c"]);
    }
}
