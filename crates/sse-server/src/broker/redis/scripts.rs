//! The Lua scripts, and what their callers have in common.
//!
//! Redis runs a script as one step: no other command comes between. The header of each file has a
//! table of its `KEYS` and `ARGV` and lists its replies. Nodes of different versions may serve one
//! Redis at the same time, each with its own scripts. A reply may therefore change, but not the
//! names and values of keys and fields without a new number of the `format`.
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
use redis::Script;

const EXPIRE_KEYS_TEXT: &str = include_str!("scripts/expire_keys.lua");
const FIRST_ID_TEXT: &str = include_str!("scripts/first_id.lua");

/// The text of `record_loss.lua`, for `SCRIPT LOAD`.
pub(super) const RECORD_LOSS_TEXT: &str = include_str!("scripts/record_loss.lua");

const NOW_TEXT: &str = include_str!("scripts/now.lua");
const LIFE_TEXT: &str = include_str!("scripts/life.lua");

/// The text of `write.lua`, for `SCRIPT LOAD`.
pub(super) static WRITE_TEXT: LazyLock<String> = LazyLock::new(|| {
    let write = include_str!("scripts/write.lua");
    [EXPIRE_KEYS_TEXT, LIFE_TEXT, FIRST_ID_TEXT, write].concat()
});

pub(super) static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(&WRITE_TEXT));

/// The text of `delete.lua`, for `SCRIPT LOAD`.
pub(super) static DELETE_TEXT: LazyLock<String> =
    LazyLock::new(|| on_channel(include_str!("scripts/delete.lua")));

pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| Script::new(&DELETE_TEXT));

/// The same, for a Redis 7 at its `maxmemory`, which allows it because it frees memory.
pub(super) static DELETE_WHEN_FULL: LazyLock<Script> = LazyLock::new(|| {
    let delete = include_str!("scripts/delete.lua");
    Script::new(&["#!lua flags=allow-oom\n", NOW_TEXT, LIFE_TEXT, delete].concat())
});

/// The text of `configure.lua`, for `SCRIPT LOAD`.
pub(super) static CONFIGURE_TEXT: LazyLock<String> =
    LazyLock::new(|| on_channel(include_str!("scripts/configure.lua")));

pub(super) static CONFIGURE: LazyLock<Script> = LazyLock::new(|| Script::new(&CONFIGURE_TEXT));

pub(super) static COPY: LazyLock<Script> =
    LazyLock::new(|| Script::new(&on_channel(include_str!("scripts/copy.lua"))));

pub(super) static KEEP_ALIVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(&on_channel(include_str!("scripts/keep_alive.lua"))));

pub(super) static REGISTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[NOW_TEXT, include_str!("scripts/register.lua")].concat()));

/// The text of `maintain.lua`, for `SCRIPT LOAD`.
pub(super) static MAINTAIN_TEXT: LazyLock<String> = LazyLock::new(|| {
    let maintain = include_str!("scripts/maintain.lua");
    [EXPIRE_KEYS_TEXT, LIFE_TEXT, maintain].concat()
});

pub(super) static MAINTAIN: LazyLock<Script> = LazyLock::new(|| Script::new(&MAINTAIN_TEXT));

/// The text of a script that reads the state of a channel.
fn on_channel(text: &str) -> String {
    [NOW_TEXT, LIFE_TEXT, text].concat()
}

pub(super) static FLASK_APPEND: LazyLock<Script> = LazyLock::new(|| {
    let append = include_str!("scripts/flask_append.lua");
    Script::new(&[NOW_TEXT, LIFE_TEXT, FIRST_ID_TEXT, append].concat())
});

pub(super) static FLASK_LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_lease.lua")));

pub(super) static FLASK_PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_publish.lua")));

pub(super) static RECORD_LOSS: LazyLock<Script> = LazyLock::new(|| Script::new(RECORD_LOSS_TEXT));

/// The text of `stream_extent.lua`, for `EVAL`.
///
/// A pipeline that only reads cannot repeat an `EVALSHA` of a script that Redis does not know. The
/// text is sent each time, so it has no comments.
pub(super) static STREAM_EXTENT_TEXT: LazyLock<String> =
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
    fn a_script_without_comments_has_all_of_its_code() {
        let script = "-- Adds.\n--\n\nlocal sum = 1\n    + 2\nreturn sum\n";
        let code = "local sum = 1\n    + 2\nreturn sum";
        assert_eq!(without_comments(script), code);
        assert!(STREAM_EXTENT_TEXT.starts_with("local "));
        assert!(STREAM_EXTENT_TEXT.len() < 700);
    }
}
