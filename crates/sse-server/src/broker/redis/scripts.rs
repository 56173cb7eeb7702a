//! The Lua scripts, and what their callers have in common.
//!
//! Redis runs a script as one step: no other command comes between. The header of each file has a
//! table of its `KEYS` and `ARGV` and lists its replies. Nodes of different versions may serve one
//! Redis at the same time, each with its own scripts. A reply may therefore change, but not the
//! names and values of keys and fields without a new number of the `format`.
//!
//! In a Redis Cluster, notifications are sharded: its nodes would send an ordinary one to all others.
//!
//! | script | caller | step |
//! |---|---|---|
//! | `write.lua` | `idempotency` | carries out a write: a condition, items whose key is not known, the end |
//! | `delete.lua`, `configure.lua`, `keep_alive.lua` | `lifecycle` | deletes or configures a channel |
//! | `copy.lua` | `copy_target` | copies a part of a channel from another log |
//! | `register.lua` | `registry` | registers a channel before its first event |
//! | `maintain.lua` | `maintenance/visit` | trims, expires or forgets a channel that is due |
//! | `life.lua`, `now.lua` | | the beginning of the scripts that read the state of a channel |
//! | `first_id.lua` | | a part of the scripts that append: the first id on a connection |
//! | `expire_keys.lua` | | a part of the scripts that forget expired keys |
//! | `record_loss.lua` | `verification` | verifies an id, and records a loss |
//! | `stream_extent.lua` | `streams` | describes a stream without its events |
//! | `flask_append.lua` | `flask_sse/inbound` | appends messages of Flask-SSE once each |
//! | `flask_lease.lua` | `flask_sse/lease` | acquires or renews the lease of a channel |
//! | `flask_publish.lua` | `flask_sse/outbound` | sends events to Flask-SSE once each |

use std::{sync::LazyLock, time::Duration};

use rand::RngExt as _;
use redis::{Cmd, Script};
use sse_proto::Channel;

use super::{names::Names, slots::Slots};

/// A script that notifies, for each topology.
pub(super) struct NotifyingScript {
    one: Notifying,
    cluster: Notifying,
}

/// A script and its text.
pub(super) struct Notifying {
    pub(super) script: Script,
    pub(super) text: String,
}

impl NotifyingScript {
    fn new(text: String) -> Self {
        let sharded = text
            .replace("'PUBLISH'", "'SPUBLISH'")
            .replace("'NUMSUB'", "'SHARDNUMSUB'");
        let notifying = |text: String| Notifying {
            script: Script::new(&text),
            text,
        };
        Self {
            one: notifying(text),
            cluster: notifying(sharded),
        }
    }

    /// The script for the topology of `names`.
    pub(super) fn of(&self, names: &Names) -> &Script {
        &self.with_text(names).script
    }

    /// The script for the topology of `names`, and its text for `SCRIPT LOAD`.
    pub(super) const fn with_text(&self, names: &Names) -> &Notifying {
        match names.slots() {
            Slots::One => &self.one,
            Slots::Cluster => &self.cluster,
        }
    }
}

const EXPIRE_KEYS_TEXT: &str = include_str!("scripts/expire_keys.lua");
const FIRST_ID_TEXT: &str = include_str!("scripts/first_id.lua");

const RECORD_LOSS_TEXT: &str = include_str!("scripts/record_loss.lua");

const NOW_TEXT: &str = include_str!("scripts/now.lua");
const LIFE_TEXT: &str = include_str!("scripts/life.lua");

pub(super) static WRITE: LazyLock<NotifyingScript> = LazyLock::new(|| {
    let write = include_str!("scripts/write.lua");
    NotifyingScript::new([EXPIRE_KEYS_TEXT, LIFE_TEXT, FIRST_ID_TEXT, write].concat())
});

pub(super) static DELETE: LazyLock<NotifyingScript> =
    LazyLock::new(|| on_channel(include_str!("scripts/delete.lua")));

/// The same, for a Redis 7 at its `maxmemory`, which allows it because it frees memory.
pub(super) static DELETE_WHEN_FULL: LazyLock<NotifyingScript> = LazyLock::new(|| {
    let delete = include_str!("scripts/delete.lua");
    NotifyingScript::new(["#!lua flags=allow-oom\n", NOW_TEXT, LIFE_TEXT, delete].concat())
});

pub(super) static CONFIGURE: LazyLock<NotifyingScript> =
    LazyLock::new(|| on_channel(include_str!("scripts/configure.lua")));

pub(super) static COPY: LazyLock<NotifyingScript> =
    LazyLock::new(|| on_channel(include_str!("scripts/copy.lua")));

pub(super) static KEEP_ALIVE: LazyLock<NotifyingScript> =
    LazyLock::new(|| on_channel(include_str!("scripts/keep_alive.lua")));

pub(super) static REGISTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[NOW_TEXT, include_str!("scripts/register.lua")].concat()));

pub(super) static MAINTAIN: LazyLock<NotifyingScript> = LazyLock::new(|| {
    let maintain = include_str!("scripts/maintain.lua");
    NotifyingScript::new([EXPIRE_KEYS_TEXT, LIFE_TEXT, maintain].concat())
});

/// A script that reads the state of a channel.
fn on_channel(text: &str) -> NotifyingScript {
    NotifyingScript::new([NOW_TEXT, LIFE_TEXT, text].concat())
}

pub(super) static FLASK_APPEND: LazyLock<Script> = LazyLock::new(|| {
    let append = include_str!("scripts/flask_append.lua");
    Script::new(&[NOW_TEXT, LIFE_TEXT, FIRST_ID_TEXT, append].concat())
});

pub(super) static FLASK_LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_lease.lua")));

pub(super) static FLASK_PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_publish.lua")));

pub(super) static RECORD_LOSS: LazyLock<NotifyingScript> =
    LazyLock::new(|| NotifyingScript::new(RECORD_LOSS_TEXT.to_owned()));

/// `stream_extent.lua`, for `parse_state` and `parse_last_id`.
pub(super) fn stream_extent(names: &Names, channel: &Channel) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(STREAM_EXTENT_TEXT.as_str()).arg(3);
    command.arg(&names.state(channel));
    command
}

/// The text of `stream_extent.lua`, for `EVAL`.
///
/// A pipeline that only reads cannot repeat an `EVALSHA` of a script that Redis does not know. The
/// text is sent each time, so it has no comments.
static STREAM_EXTENT_TEXT: LazyLock<String> =
    LazyLock::new(|| without_comments(include_str!("scripts/stream_extent.lua")));

/// The lines of a script that are neither empty nor a comment.
fn without_comments(script: &str) -> String {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("--");
    let lines: Vec<&str> = script.lines().filter(is_code).collect();
    lines.join("\n")
}

/// A number below a million for ids that no other node chooses. The id also has the millisecond in
/// which it is chosen.
pub(super) fn random_suffix() -> u32 {
    rand::rng().random_range(0..1_000_000)
}

/// Milliseconds of `duration`, the unit of every script.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_for_a_cluster_sends_only_sharded_notifications() {
        for script in [&WRITE, &DELETE, &MAINTAIN, &RECORD_LOSS] {
            let text = &script.cluster.text;
            assert!(text.contains("SPUBLISH") && !text.contains("'PUBLISH'"));
            assert!(!script.one.text.contains("SPUBLISH"));
        }
    }

    #[test]
    fn a_script_without_comments_has_all_of_its_code() {
        let script = "-- Adds.\n--\n\nlocal sum = 1\n    + 2\nreturn sum\n";
        let code = "local sum = 1\n    + 2\nreturn sum";
        assert_eq!(without_comments(script), code);
        assert!(STREAM_EXTENT_TEXT.starts_with("local "));
        assert!(STREAM_EXTENT_TEXT.len() < 700);
    }
}
