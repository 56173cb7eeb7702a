//! Replies in every shape that Redis sends them, and malformed ones.

use super::*;
use crate::broker::continuity::Trimmed;

const NEVER_USED: Extent = Extent {
    oldest: None,
    last: EventId::ZERO,
    trimmed: Trimmed::NothingSince(EventId::ZERO),
};

/// The rest of the state of a channel that was never configured, closed or deleted.
const PLAIN: &str = "_\n_\n_\n_\n_\n_\n_\n";

/// The value of a reply as it is on the wire, in RESP2 or RESP3.
fn wire(reply: &str) -> Value {
    redis::parse_redis_value(reply.replace('\n', "\r\n").as_bytes()).expect("a complete reply")
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn array(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| bulk(item)).collect())
}

fn entry(id: &str, fields: &[&str]) -> Value {
    Value::Array(vec![bulk(id), array(fields)])
}

fn id(ms: u64) -> EventId {
    EventId::new(ms, 0)
}

/// Values that no parser of this file accepts.
fn malformed_values() -> [Value; 6] {
    [
        Value::Nil,
        Value::Int(7),
        Value::Okay,
        bulk("x"),
        Value::BulkString(vec![0xff]),
        Value::Boolean(true),
    ]
}

#[test]
fn the_replies_to_a_pipeline_are_as_many_as_its_commands() {
    assert!(split_replies::<2>(vec![Value::Nil, Value::Okay]).is_ok());
    for replies in [vec![], vec![Value::Nil], vec![Value::Nil; 3]] {
        assert!(matches!(
            split_replies::<2>(replies),
            Err(BrokerError::Damaged(_))
        ));
    }
}

#[test]
fn a_trim_mark_counts_only_while_its_second_event_is_the_oldest() {
    let mark = parse_trim_mark(wire("$7\n4-0 5-0\n")).unwrap();
    for (oldest, trimmed) in [
        (Some(5), Trimmed::Through(id(4))),
        (Some(6), Trimmed::Somewhere),
        (None, Trimmed::Somewhere),
    ] {
        let mut extent = Extent {
            oldest: oldest.map(id),
            last: id(9),
            trimmed: Trimmed::Somewhere,
        };
        mark.apply(&mut extent);
        assert_eq!(extent.trimmed, trimmed, "{oldest:?}");
    }
    let malformed = ["", "4-0", "4-0 x", "4-0 5-0 6-0"].map(bulk);
    for reply in malformed_values().into_iter().chain(malformed) {
        assert_eq!(parse_trim_mark(reply), None);
    }
}

#[test]
fn an_added_id_is_a_bulk_or_a_simple_string() {
    assert_eq!(
        parse_added_id(wire("$5\n123-4\n")).unwrap(),
        EventId::new(123, 4)
    );
    assert_eq!(
        parse_added_id(wire("+123-4\n")).unwrap(),
        EventId::new(123, 4)
    );
}

#[test]
fn without_an_added_id_the_outcome_is_unknown_unless_redis_rejected_the_event() {
    for reply in malformed_values() {
        assert!(matches!(
            parse_added_id(reply),
            Err(BrokerError::OutcomeUnknown(_))
        ));
    }
    assert!(matches!(
        parse_added_id(wire(
            "-OOM command not allowed when used memory > 'maxmemory'.\n"
        )),
        Err(BrokerError::Full(_))
    ));
    assert!(matches!(
        parse_added_id(wire("-WRONGTYPE Operation against a key\n")),
        Err(BrokerError::Unavailable(text)) if text.contains("WRONGTYPE")
    ));
}

#[test]
fn a_time_is_seconds_and_microseconds() {
    let time = wire("*2\n$10\n1700000000\n$6\n123999\n");
    assert_eq!(parse_time_ms(time).unwrap(), 1_700_000_000_123);
    let far = array(&["18446744073709551615", "0"]);
    assert_eq!(parse_time_ms(far).unwrap(), u64::MAX);
    for reply in [
        array(&["1"]),
        array(&["x", "0"]),
        array(&["-1", "0"]),
        Value::Nil,
    ] {
        assert!(matches!(parse_time_ms(reply), Err(BrokerError::Damaged(_))));
    }
    assert!(matches!(
        parse_time_ms(wire("-LOADING Redis is loading the dataset in memory\n")),
        Err(BrokerError::Unavailable(_))
    ));
}

#[test]
fn malformed_entries_of_the_gap_index_are_skipped() {
    let reply = Value::Array(vec![
        entry("5-0", &["after", "2-0"]),
        entry("6-0", &["after", "x"]),
        entry("7-0", &["other", "2-0"]),
        entry("9-0", &["after", "8-0", "new", "?"]),
    ]);
    let lost = |after, before| Lost {
        after: id(after),
        before: id(before),
    };
    assert_eq!(parse_gap_index(reply), [lost(2, 5), lost(8, 9)]);
    for reply in malformed_values() {
        assert_eq!(parse_gap_index(reply), []);
    }
    assert_eq!(
        parse_gap_index(wire("-WRONGTYPE Operation against a key\n")),
        []
    );
}

#[test]
fn a_channel_without_a_stream_never_had_an_event() {
    let state = parse_state(wire("-ERR no such key\n")).unwrap();
    assert_eq!(state.extent, NEVER_USED);
    assert!(!state.exists);
}

#[test]
fn nothing_was_trimmed_if_as_many_entries_are_kept_as_were_added() {
    for (length_and_added, trimmed) in [
        (":3\n:3\n", NEVER_USED.trimmed),
        (":3\n:4\n", Trimmed::Somewhere),
        // Redis 6.2 does not count the entries that were added.
        (":3\n$-1\n", Trimmed::Somewhere),
    ] {
        let reply = wire(&format!("*11\n$3\n9-0\n$3\n5-0\n{length_and_added}{PLAIN}"));
        let extent = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed,
        };
        let state = parse_state(reply).unwrap();
        assert_eq!(state.extent, extent, "{length_and_added}");
    }
}

#[test]
fn an_emptied_stream_keeps_its_last_id() {
    // In RESP2 and in RESP3.
    for nil in ["$-1", "_"] {
        let reply = wire(&format!("*11\n$3\n9-0\n{nil}\n:0\n:4\n{PLAIN}"));
        let extent = parse_state(reply.clone()).unwrap().extent;
        assert_eq!((extent.oldest, extent.last), (None, id(9)));
        assert_eq!(extent.trimmed, Trimmed::Somewhere);
        assert_eq!(parse_last_id(reply).unwrap(), id(9));
    }
}

#[test]
fn a_malformed_extent_is_damage() {
    let malformed = [
        "*0\n",
        "*1\n$3\n9-0\n",
        "*4\n$1\nx\n$-1\n:0\n:0\n",
        "*4\n$-1\n$-1\n:0\n:0\n",
        "*5\n$3\n9-0\n$-1\n:0\n:0\n:0\n",
    ];
    for reply in malformed_values().into_iter().chain(malformed.map(wire)) {
        assert!(matches!(parse_state(reply), Err(BrokerError::Damaged(_))));
    }
    assert!(matches!(
        parse_state(wire("-WRONGTYPE Operation against a key\n")),
        Err(BrokerError::Unavailable(_))
    ));
}
