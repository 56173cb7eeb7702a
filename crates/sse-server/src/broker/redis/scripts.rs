//! The Lua scripts, and what their callers have in common.
//!
//! Redis runs a script as one step: no other command comes between. The header of each file has a
//! table of its `KEYS` and `ARGV` and lists its replies. Nodes of different versions may serve one
//! Redis at the same time, each with its own scripts. A reply may therefore change, but not the
//! names and values of keys and fields.
//!
//! | script | caller | step |
//! |---|---|---|
//! | `append_idempotent.lua` | `idempotency` | appends the items whose key is not known |
//! | `first_id.lua` | | a part of the scripts that append: the first id on a connection |
//! | `expire_keys.lua` | `idempotency` | forgets expired keys; also a part of the script above |
//! | `record_loss.lua` | `verification` | verifies an id, and records a loss |
//! | `stream_extent.lua` | `streams` | describes a stream without its events |
//! | `flask_append.lua` | `flask_sse/inbound` | appends messages of Flask-SSE once each |
//! | `flask_lease.lua` | `flask_sse/lease` | acquires or renews the lease of a channel |
//! | `flask_publish.lua` | `flask_sse/outbound` | sends events to Flask-SSE once each |
//! | `trim.lua` | `retention` | trims a stream by age, or forgets a dead channel |

use std::{sync::LazyLock, time::Duration};

use rand::RngExt as _;
use redis::Script;

const EXPIRE_KEYS_TEXT: &str = include_str!("scripts/expire_keys.lua");
const FIRST_ID_TEXT: &str = include_str!("scripts/first_id.lua");

/// The text of `record_loss.lua`, for `SCRIPT LOAD`.
pub(super) const RECORD_LOSS_TEXT: &str = include_str!("scripts/record_loss.lua");

/// The text of `append_idempotent.lua`, for `SCRIPT LOAD`.
pub(super) static APPEND_IDEMPOTENT_TEXT: LazyLock<String> = LazyLock::new(|| {
    let append = include_str!("scripts/append_idempotent.lua");
    [EXPIRE_KEYS_TEXT, FIRST_ID_TEXT, append].concat()
});

pub(super) static APPEND_IDEMPOTENT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&APPEND_IDEMPOTENT_TEXT));

pub(super) static FLASK_APPEND: LazyLock<Script> = LazyLock::new(|| {
    let append = include_str!("scripts/flask_append.lua");
    Script::new(&[FIRST_ID_TEXT, append].concat())
});

pub(super) static FLASK_LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_lease.lua")));

pub(super) static FLASK_PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/flask_publish.lua")));

/// Forgets up to `ARGV[1]` expired keys, and replies with how many it forgot.
pub(super) static EXPIRE_KEYS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[EXPIRE_KEYS_TEXT, "return expire_keys(tonumber(ARGV[1]))"].concat())
});

pub(super) static RECORD_LOSS: LazyLock<Script> = LazyLock::new(|| Script::new(RECORD_LOSS_TEXT));

/// The text of `stream_extent.lua`, for `EVAL`.
///
/// A pipeline that only reads cannot repeat an `EVALSHA` of a script that Redis does not know. The
/// text is sent each time, so it has no comments.
pub(super) static STREAM_EXTENT_TEXT: LazyLock<String> =
    LazyLock::new(|| without_comments(include_str!("scripts/stream_extent.lua")));

pub(super) static TRIM: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/trim.lua")));

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
        assert!(STREAM_EXTENT_TEXT.len() < 400);
    }
}
