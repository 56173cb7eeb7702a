//! The verification of an id: the command for `scripts/record_loss.lua`, and its reply.
//!
//! The header of the script has the table of arguments and replies. Everything here is pure;
//! [`failover`](super::failover) sends the commands and acts on the replies.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use sse_proto::{Channel, EventId, api::Lost};

use super::{
    known_ids::UnverifiedId,
    names::Names,
    scripts::{RECORD_LOSS, milliseconds, random_suffix},
};

/// Gap records that the index of a channel keeps. A subscriber at an id that an older record
/// reports lost reads from the oldest event on.
const GAP_RECORDS_MAX: usize = 32;

/// What a verification found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verification {
    /// The event is still in its stream.
    Present,
    /// The event may have been trimmed, and no record is needed.
    Trimmed,
    /// The event is lost, and another node or an earlier verification has recorded that.
    AlreadyRecorded(Lost),
    /// The event is lost, and this verification has recorded it.
    Recorded(Lost),
}

impl Verification {
    /// The recorded loss; returns `None` if the event is not lost.
    pub(super) const fn lost(&self) -> Option<Lost> {
        match self {
            Self::Present | Self::Trimmed => None,
            Self::AlreadyRecorded(lost) | Self::Recorded(lost) => Some(*lost),
        }
    }
}

/// The commands that verify `ids`. The first reply is that of `SCRIPT LOAD`; the others are for
/// [`parse_verification`], one per id.
pub(super) fn verification_commands(
    names: &Names,
    age_max: Duration,
    ids: &[(Channel, UnverifiedId)],
) -> Pipeline {
    let mut commands = redis::pipe();
    commands.ignore_errors();
    let text = &RECORD_LOSS.with_text(names).text;
    commands.cmd("SCRIPT").arg("LOAD").arg(text);
    for (channel, unverified) in ids {
        commands.add_command(verification_command(names, age_max, channel, unverified));
    }
    commands
}

fn verification_command(
    names: &Names,
    age_max: Duration,
    channel: &Channel,
    unverified: &UnverifiedId,
) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command
        .arg(RECORD_LOSS.of(names).get_hash())
        .arg(7)
        .arg(names.stream(channel))
        .arg(names.gaps(channel))
        .arg(names.life(channel))
        .arg(names.deleted(channel))
        .arg(&names.registration(channel))
        .arg(unverified.id.to_string())
        .arg(channel.as_str())
        .arg(milliseconds(age_max))
        .arg(GAP_RECORDS_MAX)
        .arg(random_suffix())
        .arg(milliseconds(unverified.since.elapsed()))
        .arg(unverified.older.map(|id| id.to_string()).as_slice());
    command
}

/// Parses the reply of the script.
///
/// The error is in words: Redis could not run the script, because it is a replica or full, or the
/// reply is malformed. The id stays unverified then.
pub(super) fn parse_verification(reply: Value) -> Result<Verification, String> {
    let reply: Vec<String> = redis::from_redis_value(reply).map_err(|error| error.to_string())?;
    let words: Vec<&str> = reply.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["present"] => Ok(Verification::Present),
        ["trimmed"] => Ok(Verification::Trimmed),
        ["already_recorded", record, after] => {
            parse_lost(record, after).map(Verification::AlreadyRecorded)
        }
        ["recorded", record, after] => parse_lost(record, after).map(Verification::Recorded),
        _ => Err(format!("Redis replied {words:?}")),
    }
}

fn parse_lost(record: &str, after: &str) -> Result<Lost, String> {
    Ok(Lost {
        after: parse_id(after)?,
        before: parse_id(record)?,
    })
}

fn parse_id(text: &str) -> Result<EventId, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an event id"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::broker::redis::slots::Slots;

    fn reply(words: &[&str]) -> Result<Verification, String> {
        let words = words.iter().map(|word| Value::BulkString((*word).into()));
        parse_verification(Value::Array(words.collect()))
    }

    #[test]
    fn every_reply_of_the_script_is_parsed() {
        let lost = Lost {
            after: EventId::new(1, 0),
            before: EventId::new(5, 7),
        };
        assert_eq!(reply(&["present"]), Ok(Verification::Present));
        assert_eq!(reply(&["trimmed"]), Ok(Verification::Trimmed));
        let already_recorded = reply(&["already_recorded", "5-7", "1-0"]);
        assert_eq!(already_recorded, Ok(Verification::AlreadyRecorded(lost)));
        let recorded = reply(&["recorded", "5-7", "1-0"]).unwrap();
        assert_eq!(recorded, Verification::Recorded(lost));
        assert_eq!(recorded.lost(), Some(lost));
        assert_eq!(Verification::Trimmed.lost(), None);
    }

    #[test]
    fn a_malformed_reply_is_an_error_in_words() {
        for words in [
            &[] as &[&str],
            &["other"],
            &["present", "5-7"],
            &["recorded", "5-7"],
            &["recorded", "5-7", "x"],
            &["already_recorded", "", "1-0"],
        ] {
            assert!(reply(words).is_err(), "{words:?}");
        }
        assert!(parse_verification(Value::Nil).is_err());
        let rejected = redis::parse_redis_value(b"-READONLY read-only replica\r\n").unwrap();
        assert!(parse_verification(rejected).is_err_and(|why| why.contains("READONLY")));
    }

    #[test]
    fn the_arguments_are_in_the_order_of_the_scripts_table() {
        let unverified = UnverifiedId {
            id: EventId::new(9, 0),
            since: Instant::now(),
            older: [EventId::new(8, 0), EventId::new(7, 0), EventId::ZERO],
        };
        let channel: Channel = "orders".parse().unwrap();
        let command = verification_command(
            &Names::new("sse:", Slots::One),
            Duration::from_hours(1),
            &channel,
            &unverified,
        );
        let text = String::from_utf8(command.get_packed_command()).unwrap();
        let words: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(['*', '$']))
            .collect();
        assert_eq!(
            words[2..14],
            [
                "7",
                "sse:{orders}",
                "sse:{orders}:gaps",
                "sse:{orders}:life",
                "sse:{orders}:deleted",
                "sse:channels:{1835}",
                "sse:names",
                "sse:due:{1835}",
                "9-0",
                "orders",
                "3600000",
                "32"
            ]
        );
        assert_eq!(words[16..], ["8-0", "7-0", "0-0"]);
    }
}
