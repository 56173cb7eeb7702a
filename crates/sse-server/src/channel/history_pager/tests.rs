//! Unit tests of the history pager, on a log whose pages are as small as a test needs them.

use sse_proto::api::{GapReason, Lost};

use super::*;
use crate::channel::{Filter, UnreadableCursor};

const fn id(ms: u64) -> EventId {
    EventId::new(ms, 0)
}

/// Entries such as `c1` (a click), `v2` (a view) or `g3` (a gap record).
fn stored(entry: &str) -> Stored {
    let (kind, ms) = entry.split_at(1);
    let id = id(ms.parse().unwrap());
    match kind {
        "g" => Stored {
            id,
            kind: GAP.into(),
            data: serde_json::to_string(&recorded_loss(id.ms)).unwrap().into(),
        },
        _ => Stored {
            id,
            kind: if kind == "c" { "click" } else { "view" }.into(),
            data: "x".into(),
        },
    }
}

/// The loss of 5 to 7, whose record is `record`.
fn recorded_loss(record: u64) -> Gap {
    Gap {
        channel: Channel::default_channel(),
        after: "4-0".to_owned(),
        oldest: Some(id(record)),
        reason: GapReason::LostTail,
        lost: Some(Lost {
            after: id(4),
            before: id(record),
        }),
    }
}

fn page(entries: &str, more: bool) -> Page {
    let events: Vec<Stored> = entries.split_whitespace().map(stored).collect();
    let last = events.last().map_or(EventId::ZERO, |event| event.id);
    Page {
        start: Continuity::Contiguous,
        events,
        more,
        last,
    }
}

fn trimmed(page: Page) -> Page {
    Page {
        start: Continuity::Gap {
            reason: GapReason::Trimmed,
            oldest: page.events.first().map(|event| event.id),
            lost: None,
        },
        ..page
    }
}

fn pager(kind: Option<&str>, until: Option<u64>, limit: usize) -> HistoryPager {
    let query = HistoryQuery {
        channel: Channel::default_channel(),
        filter: Filter::new(kind.map(|kind| kind.parse().unwrap()).into_iter().collect()),
        until: until.map(id),
        limit,
    };
    HistoryPager::new(query, HistoryStart::oldest())
}

/// The ids of the response, where a reader reads on, and whether there is more.
fn response(pager: HistoryPager) -> (Vec<String>, String, bool) {
    let history = pager.finish();
    let ids = history.events.into_iter().map(|event| event.id).collect();
    (ids, history.next, history.more)
}

fn ids(ids: &[u64]) -> Vec<String> {
    ids.iter().map(|ms| format!("{ms}-0")).collect()
}

#[test]
fn one_page_that_ends_the_log_is_the_whole_response() {
    let mut pager = pager(None, None, 10);
    let (from, limits) = pager.next_read().unwrap();
    assert_eq!((from, limits.events_max), (ReadFrom::Oldest, 10));
    pager.add_page(page("c1 v2 c3", false));
    assert!(pager.next_read().is_none());
    assert_eq!(pager.events(), 3);
    assert_eq!(response(pager), (ids(&[1, 2, 3]), "3-0".to_owned(), false));
}

#[test]
fn a_filter_reads_on_until_the_limit_and_cuts_after_it() {
    let mut pager = pager(Some("click"), None, 2);
    pager.add_page(page("c1 v2 v3", true));
    let (from, limits) = pager.next_read().unwrap();
    assert_eq!(from, ReadFrom::Position(Position::After(id(3))));
    assert_eq!(limits.events_max, FILTERED_READ_MIN);
    pager.add_page(page("v4 c5 v6 c7", false));
    assert!(pager.next_read().is_none());
    assert_eq!(response(pager), (ids(&[1, 5]), "5-0".to_owned(), true));
}

#[test]
fn a_page_that_ends_exactly_at_the_limit_is_not_cut() {
    let mut pager = pager(None, None, 2);
    pager.add_page(page("c1 c2", false));
    assert_eq!(response(pager), (ids(&[1, 2]), "2-0".to_owned(), false));
}

#[test]
fn it_ends_before_the_first_event_beyond_until() {
    let mut pager = pager(None, Some(4), 10);
    pager.add_page(page("c1 c4 c5 c7", true));
    assert_eq!(pager.reached_end(), Some(id(4)));
    assert!(pager.next_read().is_none());
    assert_eq!(response(pager), (ids(&[1, 4]), "@5-0".to_owned(), false));
}

#[test]
fn a_gap_record_is_a_line_but_no_event() {
    let mut pager = pager(Some("click"), None, 2);
    pager.add_page(page("c4 g8 c9", false));
    assert_eq!(pager.events(), 2);
    assert_eq!(response(pager), (ids(&[4, 8, 9]), "9-0".to_owned(), false));
}

#[test]
fn a_start_that_the_log_does_not_continue_reports_a_gap() {
    let mut pager = HistoryPager {
        start: HistoryStart::at_cursor(Ok(Position::After(id(1)))),
        ..pager(None, None, 10)
    };
    pager.add_page(trimmed(page("c5 c6", false)));
    let gap = pager.finish().gap.unwrap();
    assert_eq!((gap.after.as_str(), gap.oldest), ("1-0", Some(id(5))));
    assert_eq!(gap.reason, GapReason::Trimmed);
}

#[test]
fn an_unreadable_cursor_reads_everything_after_a_gap() {
    let mut pager = HistoryPager {
        start: HistoryStart::at_cursor(Err(UnreadableCursor::new("garbage"))),
        ..pager(None, None, 10)
    };
    assert_eq!(pager.next_read().unwrap().0, ReadFrom::Oldest);
    pager.add_page(page("c5", false));
    let history = pager.finish();
    let gap = history.gap.unwrap();
    assert_eq!(
        (gap.after.as_str(), gap.reason),
        ("garbage", GapReason::Unknown)
    );
    assert_eq!(history.events.len(), 1);
}

#[test]
fn a_log_that_is_trimmed_between_two_reads_ends_the_response_before_the_hole() {
    let mut pager = pager(None, None, 10);
    pager.add_page(page("c1 c2", true));
    pager.add_page(trimmed(page("c9", false)));
    assert!(pager.next_read().is_none());
    assert_eq!(response(pager), (ids(&[1, 2]), "2-0".to_owned(), true));
}

#[test]
fn what_the_filter_keeps_back_counts_towards_the_limits() {
    let mut pager = pager(Some("view"), None, 10);
    let searched = ANSWER_LIMITS.events_max;
    let many: Vec<String> = (1..=searched).map(|ms| format!("c{ms}")).collect();
    pager.add_page(page(&many.join(" "), true));
    assert!(pager.next_read().is_none());
    assert_eq!(response(pager), (vec![], format!("{searched}-0"), true));

    let mut pager = self::pager(None, None, 10);
    let mut large = page("c1", true);
    large.events[0].data = "x".repeat(ANSWER_LIMITS.bytes_max).into();
    pager.add_page(large);
    assert!(
        pager.next_read().is_none(),
        "one event may exceed the limit"
    );
}

#[test]
fn a_loss_that_overlaps_the_end_is_added_once() {
    let read = |entries, until| {
        let mut pager = pager(None, Some(until), 10);
        pager.add_page(page(entries, false));
        pager.add_loss(id(until), Some(recorded_loss(8)));
        response(pager).0
    };
    // 6 was published before the loss was found, and the record lies beyond it.
    assert_eq!(read("c4 c6 g8 c9", 5), ids(&[4, 8]));
    assert_eq!(read("c4 g8 c9", 5), ids(&[4, 8]), "the record is in place");
}

#[test]
fn a_loss_that_the_first_gap_reports_is_not_repeated() {
    let mut pager = HistoryPager {
        start: HistoryStart::at_cursor(Ok(Position::After(id(7)))),
        ..pager(None, None, 10)
    };
    let start = Continuity::Gap {
        reason: GapReason::LostTail,
        oldest: Some(id(8)),
        lost: recorded_loss(8).lost,
    };
    pager.add_page(Page {
        start,
        ..page("g8 c9", false)
    });
    pager.add_loss(id(7), Some(recorded_loss(8)));
    assert_eq!(response(pager).0, ids(&[9]));
}
