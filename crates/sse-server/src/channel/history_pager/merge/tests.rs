//! Unit tests of the merge, on logs in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sse_proto::{
    Position,
    api::{GapReason, Lost},
};

use super::*;
use crate::broker::{Continuity, Page, ReadFrom};

const fn id(ms: u64) -> EventId {
    EventId::new(ms, 0)
}

fn event(ms: u64, kind: &'static str) -> Stored {
    sized_event(ms, kind, 1)
}

fn sized_event(ms: u64, kind: &'static str, bytes: usize) -> Stored {
    Stored {
        id: id(ms),
        kind: kind.into(),
        data: "x".repeat(bytes).into(),
    }
}

/// The loss of the ids from `after` to the record.
fn gap(record: u64, after: u64) -> Gap {
    Gap {
        channel: "a".parse().unwrap(),
        after: id(after).to_string(),
        oldest: Some(id(record)),
        reason: GapReason::LostTail,
        lost: Some(Lost {
            after: id(after),
            before: id(record),
        }),
    }
}

fn gap_record(record: u64, after: u64) -> Stored {
    Stored {
        data: serde_json::to_string(&gap(record, after)).unwrap().into(),
        ..event(record, "gap")
    }
}

/// The logs of some channels, by their names.
#[derive(Debug, Default)]
struct Logs(BTreeMap<Channel, Vec<Stored>>);

impl Logs {
    fn of<const N: usize>(logs: [(&str, Vec<Stored>); N]) -> Self {
        let log = |(name, events): (&str, _)| (name.parse().unwrap(), events);
        Self(logs.into_iter().map(log).collect())
    }

    /// A page, which is contiguous if its start is a position and the event before it is kept.
    fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        let log = &self.0[channel];
        let floor = match from {
            ReadFrom::Position(position) => position.floor(),
            ReadFrom::Oldest => EventId::ZERO,
            ReadFrom::Time(ms) => id(ms).before(),
        };
        let rest: Vec<&Stored> = log.iter().filter(|event| event.id > floor).collect();
        let count = limits.fit(rest.iter().map(|event| event.size()));
        let oldest = log.first().map(|event| event.id);
        let is_trimmed = from != ReadFrom::Oldest && oldest.is_some_and(|oldest| oldest > id(999));
        Page {
            start: if is_trimmed && oldest > Some(floor) {
                Continuity::Gap {
                    reason: GapReason::Trimmed,
                    oldest: rest.first().map(|event| event.id),
                    lost: None,
                }
            } else {
                Continuity::Contiguous
            },
            more: count < rest.len(),
            events: rest.into_iter().take(count).cloned().collect(),
            last: log.last().map_or(EventId::ZERO, |event| event.id),
        }
    }

    fn starts(&self, cursor: Option<&str>) -> Vec<(Channel, HistoryStart)> {
        let cursor: Option<Cursor> = cursor.map(|cursor| cursor.parse().unwrap());
        let start = |channel: &Channel| match &cursor {
            Some(cursor) => HistoryStart::at_cursor(Ok(cursor.position_in(channel).unwrap())),
            None => HistoryStart::oldest(),
        };
        let with_start = |channel: &Channel| (channel.clone(), start(channel));
        self.0.keys().map(with_start).collect()
    }

    fn merge(&self, query: &MergeQuery, cursor: Option<&str>) -> HistoryMerge {
        HistoryMerge::new(query.clone(), self.starts(cursor))
    }

    fn add_next(&self, merge: &mut HistoryMerge) -> bool {
        let Some(mut part) = merge.next_part() else {
            return false;
        };
        while let Some((from, limits)) = part.pager.next_read() {
            let page = self.read(part.pager.channel(), from, limits);
            part.pager.add_page(page);
        }
        merge.add_part(part);
        true
    }

    fn response(&self, query: &MergeQuery, cursor: Option<&str>) -> MultiHistory {
        let mut merge = self.merge(query, cursor);
        while self.add_next(&mut merge) {}
        merge.finish()
    }
}

fn query(limit: usize) -> MergeQuery {
    MergeQuery {
        filter: Filter::default(),
        until: None,
        limit,
    }
}

/// The events of a response as `5a`: id and channel.
fn names(history: &MultiHistory) -> Vec<String> {
    let name = |event: &HistoryEvent| {
        let ms = event.id.trim_end_matches("-0");
        format!("{ms}{}", event.channel.as_ref().unwrap())
    };
    history.events.iter().map(name).collect()
}

/// The log of one channel: increasing times, and whether an event is a click.
fn log() -> impl Strategy<Value = Vec<Stored>> {
    let events = prop::collection::btree_map(1_u64..400, any::<bool>(), 0..120);
    events.prop_map(|events| {
        let stored = |(ms, is_click)| event(ms, if is_click { "click" } else { "view" });
        events.into_iter().map(stored).collect()
    })
}

fn logs() -> impl Strategy<Value = Logs> {
    (log(), log(), log()).prop_map(|(a, b, c)| Logs::of([("a", a), ("b", b), ("c", c)]))
}

proptest! {
    #[test]
    fn pages_together_have_every_event_once_and_in_order(
        logs in logs(), limit in 1_usize..60, only_clicks: bool, until in prop::option::of(1_u64..400),
    ) {
        let clicks = vec!["click".parse().unwrap()];
        let query = MergeQuery {
            filter: Filter::new(if only_clicks { clicks } else { Vec::new() }),
            until: until.map(id),
            limit,
        };
        let mut expected: Vec<(EventId, String)> = logs
            .0
            .iter()
            .flat_map(|(channel, log)| log.iter().map(move |event| (channel, event)))
            .filter(|(_, event)| query.filter.passes(&event.kind))
            .filter(|(_, event)| query.until.is_none_or(|until| event.id <= until))
            .map(|(channel, event)| (event.id, format!("{}{channel}", event.id.ms)))
            .collect();
        expected.sort();
        let (mut found, mut cursor, mut more) = (Vec::new(), None, true);
        while more {
            let page = logs.response(&query, cursor.as_deref());
            prop_assert!(page.events.len() <= limit && page.gaps.is_empty());
            prop_assert!(page.events.len() == limit || !page.more);
            found.extend(names(&page));
            (cursor, more) = (Some(page.next), page.more);
        }
        let expected: Vec<String> = expected.into_iter().map(|(_, name)| name).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn each_channel_is_exact_while_its_log_grows(
        whole in logs(), limit in 1_usize..60, growth in prop::collection::vec(1_usize..4, 1..9),
    ) {
        let mut logs = Logs::of([("a", vec![]), ("b", vec![]), ("c", vec![])]);
        let mut rest: Vec<_> = whole.0.clone().into_iter().map(|(name, log)| (name, log.into_iter())).collect();
        let mut grow = growth.into_iter().cycle().enumerate();
        let (mut found, mut cursor, mut more) = (Vec::new(), None, true);
        let mut is_growing = true;
        while more || is_growing {
            is_growing = rest.iter().any(|(_, events)| events.len() > 0);
            let mut merge = logs.merge(&query(limit), cursor.as_deref());
            while logs.add_next(&mut merge) {
                let (turn, count) = grow.next().unwrap();
                let nth = turn % rest.len();
                let (name, events) = &mut rest[nth];
                logs.0.get_mut(name).unwrap().extend(events.take(count));
            }
            let page = merge.finish();
            found.extend(page.events.iter().map(|event| (event.channel.clone().unwrap(), event.id.clone())));
            (cursor, more) = (Some(page.next), page.more);
        }
        for (channel, log) in &whole.0 {
            let of_channel: Vec<&String> = found.iter().filter(|(name, _)| name == channel).map(|(_, id)| id).collect();
            let expected: Vec<String> = log.iter().map(|event| event.id.to_string()).collect();
            prop_assert_eq!(of_channel, expected.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn events_with_the_same_id_are_sorted_by_channel() {
    let log = || vec![event(1, "click"), event(2, "click")];
    let logs = Logs::of([("b", log()), ("a", log()), ("c", vec![])]);
    let history = logs.response(&query(3), None);
    assert_eq!(names(&history), ["1a", "1b", "2a"]);
    assert_eq!(
        (history.next.as_str(), history.more),
        ("a=2-0,b=@2-0,c=0-0", true)
    );
    let rest = logs.response(&query(3), Some(&history.next));
    assert_eq!(names(&rest), ["2b"]);
    assert!(!rest.more);
}

#[test]
fn large_events_of_many_channels_have_the_memory_of_one_response() {
    const BYTES: usize = 1 << 20;
    let large = |nth: u64| {
        let events = (0..4).map(|turn| sized_event(turn * 100 + nth + 1, "click", BYTES));
        (format!("c{nth:02}").parse().unwrap(), events.collect())
    };
    let logs = Logs((0..32).map(large).collect());
    let (mut found, mut cursor, mut more) = (Vec::new(), None, true);
    while more {
        let mut merge = logs.merge(&query(10_000), cursor.as_deref());
        while logs.add_next(&mut merge) {
            assert!(merge.searched.bytes <= ANSWER_LIMITS.bytes_max);
        }
        let page = merge.finish();
        assert!(!page.events.is_empty());
        let bytes: usize = page.events.iter().map(|event| event.data.len()).sum();
        assert!(bytes <= ANSWER_LIMITS.bytes_max, "{bytes}");
        found.extend(page.events.into_iter().map(|event| event.id));
        (cursor, more) = (Some(page.next), page.more);
    }
    let all = logs.0.values().flatten();
    let mut expected: Vec<EventId> = all.map(|event| event.id).collect();
    expected.sort_unstable();
    assert_eq!(
        found,
        expected.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
}

#[test]
fn one_event_may_exceed_the_memory_of_a_response() {
    let huge = sized_event(1, "click", ANSWER_LIMITS.bytes_max + 1);
    let logs = Logs::of([("a", vec![huge]), ("b", vec![event(2, "click")])]);
    let history = logs.response(&query(10), None);
    assert_eq!(
        (names(&history), history.more),
        (vec!["1a".to_owned()], true)
    );
    let rest = logs.response(&query(10), Some(&history.next));
    assert_eq!((names(&rest), rest.more), (vec!["2b".to_owned()], false));
}

#[test]
fn a_gap_is_reported_once_even_if_no_event_of_its_channel_is_in_the_response() {
    let logs = Logs::of([
        ("a", vec![event(1, "click"), event(2, "click")]),
        ("b", vec![event(1000, "click")]),
    ]);
    let history = logs.response(&query(1), Some("a=0-0,b=5-0"));
    assert_eq!(names(&history), ["1a"]);
    let gap = &history.gaps[0];
    assert_eq!((gap.channel.as_str(), gap.after.as_str()), ("b", "5-0"));
    assert_eq!(history.gaps.len(), 1);
    assert_eq!(history.next, "a=1-0,b=@1000-0");
}

#[test]
fn a_channel_that_is_trimmed_between_two_parts_ends_the_response_before_the_hole() {
    let times = |range: std::ops::Range<u64>| range.map(|ms| event(ms, "click")).collect();
    let mut logs = Logs::of([("a", times(1..100)), ("b", vec![event(500, "click")])]);
    let mut merge = logs.merge(&query(40), None);
    assert!(logs.add_next(&mut merge) && logs.add_next(&mut merge));
    logs.0.insert("a".parse().unwrap(), times(1000..1001));
    while logs.add_next(&mut merge) {}
    let history = merge.finish();
    assert_eq!((names(&history).len(), history.more), (20, true));
    assert_eq!(history.next, "a=20-0,b=@500-0");
    let rest = logs.response(&query(40), Some(&history.next));
    assert_eq!(names(&rest), ["500b", "1000a"]);
    assert_eq!(rest.gaps.len(), 1);
}

#[test]
fn a_loss_that_overlaps_the_end_is_the_last_line_of_its_channel() {
    let logs = Logs::of([
        (
            "a",
            vec![event(1, "click"), event(7, "click"), gap_record(9, 3)],
        ),
        ("b", vec![event(4, "click")]),
    ]);
    let query = MergeQuery {
        until: Some(id(5)),
        ..query(10)
    };
    let mut merge = logs.merge(&query, None);
    while let Some(mut part) = merge.next_part() {
        while let Some((from, limits)) = part.pager.next_read() {
            let page = logs.read(part.pager.channel(), from, limits);
            part.pager.add_page(page);
        }
        if part.pager.channel().as_str() == "a" {
            part.pager.add_loss(id(5), Some(gap(9, 3)));
        }
        merge.add_part(part);
    }
    let history = merge.finish();
    assert_eq!(names(&history), ["1a", "9a", "4b"]);
    // The client gets event 7 if it continues without an end.
    assert_eq!(history.next, "a=@7-0,b=4-0");
}

#[test]
fn positions_stay_readable_by_a_stream() {
    let logs = Logs::of([("a", vec![event(3, "click")]), ("b", vec![])]);
    let next = logs.response(&query(1), None).next;
    let cursor: Cursor = next.parse().unwrap();
    let in_channel = |name: &str| cursor.position_in(&name.parse().unwrap());
    assert_eq!(in_channel("a"), Some(Position::After(id(3))));
    assert_eq!(in_channel("b"), Some(Position::After(EventId::ZERO)));
}
