//! Unit tests of a subscription. Those of losses are in a file of their own.

mod loss;

use std::num::NonZeroUsize;

use sse_proto::api::GapReason;

use super::*;
use crate::{
    broker::{Continuity, Stored},
    channel::{TailLimits, chunk::CHUNK_BYTES_MAX},
};

const ALONE: IdAffixes<'_> = IdAffixes::NONE;

fn id(ms: u64) -> EventId {
    EventId::new(ms, 0)
}

fn stored(ms: u64, kind: &'static str) -> Stored {
    Stored {
        id: id(ms),
        kind: kind.into(),
        data: ms.to_string().into(),
    }
}

fn tail(floor: u64, events: &[u64]) -> Frames {
    let mut frames = Frames::new(TailLimits {
        events_max: NonZeroUsize::MAX,
        bytes_max: usize::MAX,
    });
    frames.join(id(floor));
    frames.push(events.iter().map(|ms| stored(*ms, "click")).collect());
    frames
}

fn subscription(cursor: Result<Position, UnreadableCursor>, kinds: &[&str]) -> Subscription {
    let filter = Filter::new(kinds.iter().map(|kind| kind.parse().unwrap()).collect());
    Subscription::new(
        Channel::default_channel(),
        &SubscriptionOptions {
            filter,
            ..SubscriptionOptions::default()
        },
        cursor,
    )
}

fn page(start: Continuity, events: &[u64], last: u64) -> Page {
    let events = events.iter().map(|ms| stored(*ms, "click")).collect();
    Page {
        start,
        events,
        more: false,
        last: id(last),
    }
}

fn text(chunk: &Chunk) -> String {
    String::from_utf8(chunk.bytes.to_vec()).unwrap()
}

fn written(step: Step) -> String {
    match step {
        Step::Write(chunk) => text(&chunk),
        other => panic!("{other:?} instead of a chunk"),
    }
}

#[test]
fn a_cursor_in_the_tail_is_served_from_memory_as_one_chunk() {
    let frames = tail(1, &[2, 3, 4]);
    let mut at_2 = subscription(Ok(Position::After(id(2))), &[]);
    assert_eq!(
        written(at_2.next(&frames, ALONE)),
        "id: 3-0\nevent: click\ndata: 3\n\nid: 4-0\nevent: click\ndata: 4\n\n"
    );
    assert_eq!(at_2.next(&frames, ALONE), Step::Wait);
    assert_eq!(at_2.take_unsent_position(), None);
}

#[test]
fn an_id_that_the_tail_does_not_know_is_verified_by_the_log() {
    let frames = tail(1, &[2, 4]);
    let position = Position::After(id(3));
    let mut unknown = subscription(Ok(position), &[]);
    assert_eq!(
        unknown.next(&frames, ALONE),
        Step::Fetch(ReadFrom::Position(position))
    );
    let lost = Continuity::Gap {
        reason: GapReason::LostTail,
        oldest: Some(id(2)),
        lost: None,
    };
    let chunk = unknown
        .apply_page(&page(lost, &[2, 4], 4), frames.generation(), ALONE)
        .unwrap();
    let gap = r#"{"channel":"sse","after":"3-0","oldest":"2-0","reason":"lost-tail"}"#;
    assert!(text(&chunk).starts_with(&format!("id: @2-0\nevent: gap\ndata: {gap}\n\nid: 2-0\n")));
    assert_eq!(unknown.next(&frames, ALONE), Step::Wait);
}

#[test]
fn a_cursor_of_a_faster_node_waits_and_skips_the_events_before_it() {
    let mut frames = tail(1, &[2]);
    let position = Position::After(id(4));
    let mut ahead = subscription(Ok(position), &[]);
    assert_eq!(
        ahead.next(&frames, ALONE),
        Step::Fetch(ReadFrom::Position(position))
    );
    assert_eq!(
        ahead.apply_page(&page(Continuity::Contiguous, &[], 4), 1, ALONE),
        None
    );
    assert_eq!(ahead.next(&frames, ALONE), Step::Wait);
    frames.push([3, 4, 5].map(|ms| stored(ms, "click")).into());
    assert_eq!(
        written(ahead.next(&frames, ALONE)),
        "id: 5-0\nevent: click\ndata: 5\n\n"
    );
}

#[test]
fn behind_the_tail_it_reads_history_and_joins_by_id() {
    let frames = tail(10, &[11, 12]);
    let start = Position::After(id(5));
    let mut behind = subscription(Ok(start), &[]);
    assert_eq!(
        behind.next(&frames, ALONE),
        Step::Fetch(ReadFrom::Position(start))
    );
    let first = Page {
        more: true,
        ..page(Continuity::Contiguous, &[6, 7], 12)
    };
    assert_eq!(behind.apply_page(&first, 1, ALONE).unwrap().events, 2);
    let then = ReadFrom::Position(Position::After(id(7)));
    assert_eq!(behind.next(&frames, ALONE), Step::Fetch(then));
    assert!(behind.is_behind());
    behind
        .apply_page(&page(Continuity::Contiguous, &[8, 11], 12), 1, ALONE)
        .unwrap();
    assert_eq!(
        written(behind.next(&frames, ALONE)),
        "id: 12-0\nevent: click\ndata: 12\n\n"
    );
}

#[test]
fn another_generation_of_the_tail_makes_a_cursor_unverified() {
    let mut frames = tail(1, &[2]);
    let position = Position::After(id(2));
    let mut proved = subscription(Ok(position), &[]);
    assert_eq!(proved.next(&frames, ALONE), Step::Wait);
    frames.join(id(1));
    assert_eq!(
        proved.next(&frames, ALONE),
        Step::Fetch(ReadFrom::Position(position))
    );
}

#[test]
fn filtered_events_move_the_position_which_is_sent_once() {
    let frames = tail(1, &[2, 3]);
    let mut views = subscription(Ok(Position::After(id(1))), &["view"]);
    assert_eq!(views.next(&frames, ALONE), Step::Wait);
    assert_eq!(views.take_unsent_position(), Some(Position::After(id(3))));
    assert_eq!(views.take_unsent_position(), None);
}

#[test]
fn an_unreadable_cursor_gets_a_gap_and_then_everything() {
    let frames = tail(3, &[]);
    let mut lost = subscription(Err(UnreadableCursor::new(&"x".repeat(500))), &["view"]);
    assert_eq!(lost.next(&frames, ALONE), Step::Fetch(ReadFrom::Oldest));
    let chunk = lost
        .apply_page(&page(Continuity::Contiguous, &[], 3), 1, ALONE)
        .unwrap();
    let data = format!(
        r#"{{"channel":"sse","after":"{}","oldest":null,"reason":"unknown"}}"#,
        "x".repeat(64)
    );
    assert_eq!(
        text(&chunk),
        format!("id: 3-0\nevent: gap\ndata: {data}\n\n")
    );
    assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::Unknown)));
}

#[test]
fn it_waits_while_the_tail_is_not_joined() {
    let frames = Frames::new(TailLimits {
        events_max: NonZeroUsize::MIN,
        bytes_max: 1,
    });
    let mut early = subscription(Err(UnreadableCursor::new("x")), &[]);
    assert_eq!(early.next(&frames, ALONE), Step::Wait);
}

#[test]
fn a_chunk_is_bounded_but_one_event_always_fits() {
    let mut frames = tail(1, &[]);
    let large = "x".repeat(CHUNK_BYTES_MAX);
    frames.push(
        (2..5)
            .map(|ms| Stored {
                data: large.as_str().into(),
                ..stored(ms, "click")
            })
            .collect(),
    );
    let mut reader = subscription(Ok(Position::After(id(1))), &[]);
    for _ in 0..3 {
        assert!(matches!(
            reader.next(&frames, ALONE),
            Step::Write(Chunk { events: 1, .. })
        ));
    }
    assert_eq!(reader.next(&frames, ALONE), Step::Wait);
}
