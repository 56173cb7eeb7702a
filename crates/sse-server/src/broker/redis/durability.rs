//! Whether Redis is set up to keep what it acknowledges: with an append-only file, and without
//! eviction of our streams.
//!
//! An event is as durable as that. The operator gets the warnings in the log at start and after
//! each reconnect, and from `/health/ready`. `INFO` has the settings, and `CONFIG GET` has them too
//! if this user may not read `INFO`. If the user may read neither, the warning reports that the
//! setting is unknown.

use std::collections::HashMap;

use redis::{Cmd, FromRedisValue, RedisResult, Value};

use super::{
    dial::CommandConnection,
    info::{info_command, info_value},
    replies::value_pipeline,
};
use crate::broker::Warning;

/// The commands whose replies [`parse_warnings`] expects, in this order.
pub(super) fn setup_commands() -> [Cmd; 4] {
    [
        info_command("persistence"),
        info_command("memory"),
        config_command("appendonly"),
        config_command("maxmemory-policy"),
    ]
}

/// The command whose reply [`coverage_warning`] expects.
pub(super) fn coverage_command() -> Cmd {
    config_command("cluster-require-full-coverage")
}

/// Returns a warning if a primary without a replica takes all others out of service when it fails. A
/// user who may not read the setting gets none.
pub(super) fn coverage_warning(reply: Value) -> Option<Warning> {
    let setting = config_setting(Some(reply), "cluster-require-full-coverage")?;
    (setting != "no").then(|| Warning {
        code: "full_coverage_required",
        message: "this Redis Cluster stops as a whole while a part of it is unavailable \
                  (cluster-require-full-coverage yes): set it to no, then channels of other parts \
                  continue to work"
            .to_owned(),
    })
}

fn config_command(setting: &str) -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(setting);
    command
}

/// Reads how Redis is set up and returns what is wrong with it.
///
/// # Errors
///
/// The connection failed.
pub(super) async fn read_warnings(connection: &mut CommandConnection) -> RedisResult<Vec<Warning>> {
    let replies = value_pipeline(setup_commands())
        .query_async(connection)
        .await?;
    Ok(parse_warnings(replies))
}

/// Returns what is wrong with how this Redis is set up, by the replies to [`setup_commands`].
pub(super) fn parse_warnings(replies: Vec<Value>) -> Vec<Warning> {
    let mut replies = replies.into_iter();
    let persistence = info_setting(replies.next(), "aof_enabled").map(|value| value != "0");
    let memory = info_setting(replies.next(), "maxmemory_policy");
    let append_only = config_setting(replies.next(), "appendonly").map(|value| value != "no");
    let policy = config_setting(replies.next(), "maxmemory-policy");
    [
        append_only_warning(persistence.or(append_only)),
        eviction_warning(memory.or(policy)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn info_setting(reply: Option<Value>, name: &str) -> Option<String> {
    let info: String = parse(reply)?;
    info_value(&info, name).map(ToOwned::to_owned)
}

fn config_setting(reply: Option<Value>, name: &str) -> Option<String> {
    let mut settings: HashMap<String, String> = parse(reply)?;
    settings.remove(name)
}

/// Returns `None` if Redis did not reply with what was asked for, for example with an error.
fn parse<T: FromRedisValue>(reply: Option<Value>) -> Option<T> {
    redis::from_redis_value(reply?).ok()
}

fn append_only_warning(is_append_only: Option<bool>) -> Option<Warning> {
    match is_append_only {
        Some(true) => None,
        Some(false) => Some(append_only_off()),
        None => Some(unknown(
            "appendonly_unknown",
            "whether this Redis has an append-only file (appendonly) is unknown",
        )),
    }
}

fn append_only_off() -> Warning {
    Warning {
        code: "appendonly_off",
        message: "this Redis has no append-only file (appendonly no): acknowledged events are \
                  lost when it ends; set appendonly yes, and appendfsync always to lose none"
            .to_owned(),
    }
}

fn eviction_warning(policy: Option<String>) -> Option<Warning> {
    match policy {
        // Streams have no time to live, so only the policies for all keys evict them.
        Some(policy) if policy.starts_with("allkeys") => Some(Warning {
            code: "evicting_policy",
            message: format!(
                "this Redis evicts whole channels when its memory is full (maxmemory-policy \
                 {policy}): set noeviction, then publishing is rejected (507) instead"
            ),
        }),
        Some(_) => None,
        None => Some(unknown(
            "eviction_unknown",
            "whether this Redis can evict channels (maxmemory-policy) is unknown",
        )),
    }
}

fn unknown(code: &'static str, what: &str) -> Warning {
    Warning {
        code,
        message: format!("{what}: this user may read neither INFO nor CONFIG GET"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn codes(replies: [Value; 4]) -> Vec<&'static str> {
        parse_warnings(replies.into())
            .iter()
            .map(|warning| warning.code)
            .collect()
    }

    #[test]
    fn a_setting_that_can_be_read_is_judged_and_any_other_is_unknown() {
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
        let coverage = |value| coverage_warning(setting("cluster-require-full-coverage", value));
        assert!(coverage("no").is_none() && coverage_warning(Value::Nil).is_none());
        assert_eq!(coverage("yes").unwrap().code, "full_coverage_required");
        assert_eq!(parse_warnings(Vec::new()).len(), 2);
    }
}
