//! Whether this Redis is set up to keep what it acknowledges: an append-only file, and no eviction of our streams.
//!
//! An event is as durable as that, so who runs the server is told: at start, after each reconnect, and by `/health/ready`.
//! `INFO` says it, and `CONFIG GET` where that is refused; a Redis that lets us read neither leaves it unknown.

use std::collections::HashMap;

use redis::{Pipeline, Value, aio::MultiplexedConnection};

use super::connection::info_value;
use crate::broker::Warning;

/// What to ask Redis. The answers go to [`warnings`].
pub(super) fn questions() -> Pipeline {
    let mut commands = redis::pipe();
    commands.ignore_errors();
    commands.cmd("INFO").arg("persistence");
    commands.cmd("INFO").arg("memory");
    commands.cmd("CONFIG").arg("GET").arg("appendonly");
    commands.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
    commands
}

/// What is wrong with how this Redis is set up.
pub(super) fn warnings(answers: Vec<Value>) -> Vec<Warning> {
    let mut answers = answers.into_iter();
    let mut info = |name| {
        let text: Option<String> = answers
            .next()
            .and_then(|answer| redis::from_redis_value(answer).ok());
        text.and_then(|text| info_value(&text, name).map(ToOwned::to_owned))
    };
    let (aof, policy) = (info("aof_enabled"), info("maxmemory_policy"));
    let mut config = |name| {
        let values: Option<HashMap<String, String>> = answers
            .next()
            .and_then(|answer| redis::from_redis_value(answer).ok());
        values.and_then(|mut values| values.remove(name))
    };
    let (append_only, configured) = (config("appendonly"), config("maxmemory-policy"));
    let is_kept = aof
        .map(|aof| aof != "0")
        .or_else(|| append_only.map(|word| word != "no"));
    let mut warnings = Vec::new();
    match is_kept {
        Some(true) => {}
        Some(false) => warnings.push(Warning {
            code: "appendonly_off",
            message: "this Redis has no append-only file (appendonly no): acknowledged events are lost when it ends; \
                      set appendonly yes, and appendfsync always to lose none"
                .to_owned(),
        }),
        None => warnings
            .push(unknown("appendonly_unknown", "whether this Redis has an append-only file (appendonly) is unknown")),
    }
    match policy.or(configured) {
        // What has no time to live, as our streams, is evicted by the policies for all keys only.
        Some(policy) if policy.starts_with("allkeys") => warnings.push(Warning {
            code: "evicting_policy",
            message: format!(
                "this Redis evicts whole channels when its memory is full (maxmemory-policy {policy}): set noeviction, \
                 then publishing is refused (507) instead"
            ),
        }),
        Some(_) => {}
        None => warnings
            .push(unknown("eviction_unknown", "whether this Redis can evict channels (maxmemory-policy) is unknown")),
    }
    warnings
}

fn unknown(code: &'static str, what: &str) -> Warning {
    Warning {
        code,
        message: format!("{what}: it lets this user read neither INFO nor CONFIG GET"),
    }
}

/// Says in our log what is wrong, unless it was `said` before.
pub(super) async fn warn(
    connection: &mut MultiplexedConnection,
    address: &str,
    said: &mut Vec<Warning>,
) {
    // A connection that fails here is found to be broken by what comes next.
    let Ok(answers) = questions().query_async::<Vec<Value>>(connection).await else {
        return;
    };
    let found = warnings(answers);
    if found != *said {
        for warning in &found {
            tracing::warn!(address, code = warning.code, "{}", warning.message);
        }
    }
    *said = found;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn codes(answers: [Value; 4]) -> Vec<&'static str> {
        warnings(answers.into())
            .iter()
            .map(|warning| warning.code)
            .collect()
    }

    #[test]
    fn what_can_be_read_is_judged_and_what_cannot_is_unknown() {
        let setting = |name: &str, value: &str| Value::Array(vec![text(name), text(value)]);
        let (yes, no) = (setting("appendonly", "yes"), setting("appendonly", "no"));
        let (keeps, evicts) = (
            setting("maxmemory-policy", "volatile-lru"),
            setting("maxmemory-policy", "allkeys-random"),
        );
        assert!(codes([Value::Nil, Value::Nil, yes.clone(), keeps]).is_empty());
        assert_eq!(
            codes([Value::Nil, Value::Nil, no, evicts.clone()]),
            ["appendonly_off", "evicting_policy"]
        );
        assert_eq!(
            codes([const { Value::Nil }; 4]),
            ["appendonly_unknown", "eviction_unknown"]
        );
        let (off, memory) = (
            text("# x\r\naof_enabled:0\r\n"),
            text("maxmemory_policy:noeviction\r\n"),
        );
        assert_eq!(codes([off, memory, yes, evicts]), ["appendonly_off"]);
        assert_eq!(warnings(Vec::new()).len(), 2);
    }
}
