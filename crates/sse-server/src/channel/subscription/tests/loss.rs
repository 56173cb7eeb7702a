//! A subscription whose log loses its newest events.

use sse_proto::api::{Gap, Lost};

use super::*;
use crate::broker::GAP;

#[test]
fn after_a_loss_no_event_is_sent_twice_on_one_connection() {
    let mut frames = tail(0, &[1, 2, 5]);
    let mut reader = subscription(Ok(Position::After(id(0))), &[]);
    assert!(matches!(
        reader.next(&frames, ALONE),
        Step::Write(Chunk { events: 3, .. })
    ));
    // The log has lost 5, and has got 7 since.
    frames.join(id(7));
    let from = ReadFrom::Position(Position::After(id(5)));
    assert_eq!(reader.next(&frames, ALONE), Step::Fetch(from));
    let lost = Continuity::Gap {
        reason: GapReason::LostTail,
        oldest: Some(id(1)),
        lost: None,
    };
    let chunk = reader
        .apply_page(
            &Page {
                more: true,
                ..page(lost, &[1], 7)
            },
            frames.generation(),
            ALONE,
        )
        .unwrap();
    assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::LostTail)));
    let then = ReadFrom::Position(Position::After(id(1)));
    assert_eq!(reader.next(&frames, ALONE), Step::Fetch(then));
    let chunk = reader
        .apply_page(
            &page(Continuity::Contiguous, &[2, 7], 7),
            frames.generation(),
            ALONE,
        )
        .unwrap();
    assert_eq!(text(&chunk), "id: 7-0\nevent: click\ndata: 7\n\n");
}

/// The gap record 8, which reports the loss of 5 to 7.
fn record() -> (Lost, Stored) {
    let lost = Lost {
        after: id(4),
        before: id(8),
    };
    let channel = Channel::default_channel();
    let (after, oldest, reason) = ("4-0".to_owned(), Some(id(8)), GapReason::LostTail);
    let data = serde_json::to_string(&Gap {
        channel,
        after,
        oldest,
        reason,
        lost: Some(lost),
    })
    .unwrap();
    (
        lost,
        Stored {
            id: id(8),
            kind: GAP.into(),
            data: data.into(),
        },
    )
}

#[test]
fn a_gap_record_passes_every_filter_begins_a_chunk_and_is_no_event() {
    let mut frames = tail(3, &[4]);
    let (_, record) = record();
    frames.push(vec![record.clone(), stored(9, "click")]);
    let block = format!("id: 8-0\nevent: gap\ndata: {}\n\n", record.data);
    for (kinds, envelope) in [
        (&[][..], Envelope::None),
        (&[], Envelope::Json),
        (&["view"], Envelope::Json),
    ] {
        let filter = Filter::new(
            kinds
                .iter()
                .map(|kind: &&str| kind.parse().unwrap())
                .collect(),
        );
        let options = SubscriptionOptions {
            filter,
            envelope,
            until: None,
            notices: false,
        };
        let start = || Ok(Position::After(id(3)));
        let mut reader = Subscription::new(Channel::default_channel(), &options, start());
        let events = usize::from(kinds.is_empty());
        if events > 0 {
            assert!(matches!(
                reader.next(&frames, ALONE),
                Step::Write(Chunk {
                    events: 1,
                    gap: None,
                    ..
                })
            ));
        }
        let Step::Write(chunk) = reader.next(&frames, ALONE) else {
            panic!("no gap is reported")
        };
        assert!(text(&chunk).starts_with(&block), "{}", text(&chunk));
        assert_eq!(
            (chunk.events, chunk.gap),
            (events, Some(GapReason::LostTail))
        );
        assert_eq!(reader.next(&frames, ALONE), Step::Wait);

        let mut behind = Subscription::new(Channel::default_channel(), &options, start());
        let events = vec![stored(4, "click"), record.clone(), stored(9, "click")];
        let all = Page {
            events,
            ..page(Continuity::Contiguous, &[], 9)
        };
        let chunk = behind.apply_page(&all, 1, ALONE).unwrap();
        assert!(text(&chunk).contains(&block), "{}", text(&chunk));
        assert_eq!(
            (chunk.events, chunk.gap),
            (2 * usize::from(kinds.is_empty()), Some(GapReason::LostTail))
        );
    }
}

#[test]
fn a_cursor_among_lost_events_gets_one_gap_and_the_events_that_replace_them() {
    let (lost, record) = record();
    let mut frames = tail(3, &[4]);
    frames.push(vec![stored(6, "click"), record, stored(9, "click")]);
    let from = Position::After(id(7));
    let mut inside = subscription(Ok(from), &[]);
    assert_eq!(
        inside.next(&frames, ALONE),
        Step::Fetch(ReadFrom::Position(from))
    );
    let start = Continuity::Gap {
        reason: GapReason::LostTail,
        oldest: Some(id(6)),
        lost: Some(lost),
    };
    // The log has event 6 now, although its id is below the one that the client has seen.
    let chunk = inside
        .apply_page(
            &Page {
                more: true,
                ..page(start, &[6], 9)
            },
            frames.generation(),
            ALONE,
        )
        .unwrap();
    let gap = concat!(
        r#"{"channel":"sse","after":"7-0","oldest":"6-0","reason":"lost-tail","#,
        r#""lost":{"after":"4-0","before":"8-0"}}"#
    );
    assert!(
        text(&chunk).starts_with(&format!("id: @6-0\nevent: gap\ndata: {gap}\n\nid: 6-0\n")),
        "{}",
        text(&chunk)
    );
    assert_eq!(
        written(inside.next(&frames, ALONE)),
        "id: 9-0\nevent: click\ndata: 9\n\n"
    );
}

/// Reads to the end a log with the events 4, `early`, the record and 9. `early` was published
/// before the loss of 5 to 7 was found.
///
/// Returns the blocks that were sent, and the last position.
fn read_to_end(until: u64, early: Option<u64>, history: bool) -> (Vec<String>, Position) {
    let (_, record) = record();
    let events: Vec<Stored> = [stored(4, "click")]
        .into_iter()
        .chain(early.map(|ms| stored(ms, "click")))
        .chain([record.clone(), stored(9, "click")])
        .collect();
    let mut frames = tail(if history { 9 } else { 3 }, &[]);
    if !history {
        frames.push(events.clone());
    }
    let options = SubscriptionOptions {
        until: Some(id(until)),
        ..SubscriptionOptions::default()
    };
    let start = Ok(Position::After(id(3)));
    let mut reader = Subscription::new(Channel::default_channel(), &options, start);
    let mut sent = Vec::new();
    for settled in [false, true] {
        if settled {
            let loss = record
                .gap()
                .filter(|gap| gap.lost.unwrap().after < id(until));
            reader.set_settlement(Settlement { last: id(9), loss });
        }
        loop {
            match reader.next(&frames, ALONE) {
                Step::Write(chunk) => sent.push(text(&chunk)),
                Step::Fetch(_) => {
                    let all = Page {
                        events: events.clone(),
                        ..page(Continuity::Contiguous, &[], 9)
                    };
                    sent.extend(
                        reader
                            .apply_page(&all, frames.generation(), ALONE)
                            .map(|chunk| text(&chunk)),
                    );
                }
                Step::Wait if !settled => break,
                Step::End if settled => break,
                other => panic!("{other:?} with until={until}"),
            }
        }
    }
    let sent = sent.concat();
    (
        sent.split_terminator("\n\n")
            .map(ToOwned::to_owned)
            .collect(),
        reader.position(),
    )
}

#[test]
fn a_loss_before_the_end_of_a_subscription_is_reported_before_it_ends() {
    let (_, record) = record();
    let event = |ms: u64| format!("id: {ms}-0\nevent: click\ndata: {ms}");
    let gap = |at: &str| format!("id: {at}\nevent: gap\ndata: {}", record.data);
    for history in [false, true] {
        for until in [5, 7] {
            // The record is sent in its place.
            let expected = (vec![event(4), gap("8-0")], Position::After(id(8)));
            assert_eq!(read_to_end(until, None, history), expected);
        }
        // The record is sent at the first event beyond the end, where the client can resume.
        let expected = (vec![event(4), gap("@6-0")], Position::At(id(6)));
        assert_eq!(read_to_end(5, Some(6), history), expected);
        for until in [6, 7] {
            let expected = (vec![event(4), event(6), gap("8-0")], Position::After(id(8)));
            assert_eq!(read_to_end(until, Some(6), history), expected);
        }
        // The client wanted none of the lost events.
        for early in [None, Some(6)] {
            let (sent, position) = read_to_end(4, early, history);
            assert_eq!((sent, position), (vec![event(4)], Position::After(id(4))));
        }
    }
}
