//! Chunks and turns of a merged subscription.

use std::num::NonZeroUsize;

use sse_proto::EventId;

use super::*;
use crate::{broker::Stored, channel::TailLimits};

fn tail(events: u64) -> Frames {
    let mut frames = Frames::new(TailLimits {
        events_max: NonZeroUsize::MAX,
        bytes_max: usize::MAX,
    });
    frames.join(EventId::ZERO);
    let event = |ms| Stored {
        id: EventId::new(ms, 0),
        kind: "click".into(),
        data: ms.to_string().into(),
    };
    frames.push((1..=events).map(event).collect());
    frames
}

fn subscription(channels: usize, start: Position) -> MultiSubscription {
    let start = |nth| (format!("{nth:0>64}").parse().unwrap(), Ok(start));
    MultiSubscription::new((0..channels).map(start), &SubscriptionOptions::default())
}

#[test]
fn a_chunk_is_bounded_however_long_the_ids_are() {
    let tails: Vec<Frames> = (0..32)
        .map(|nth| tail(if nth == 5 { 2000 } else { 0 }))
        .collect();
    let mut reader = subscription(32, Position::After(EventId::ZERO));
    let (mut chunks, mut text) = (0, String::new());
    while let MultiStep::Write(chunk) = reader.next(|nth| &tails[nth], None) {
        assert!(
            chunk.bytes.len() <= CHUNK_BYTES_MAX,
            "{}",
            chunk.bytes.len()
        );
        text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
        chunks += 1;
    }
    assert!(chunks > 10);
    let data: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| data.parse().unwrap())
        .collect();
    assert_eq!(data, (1..=2000).collect::<Vec<_>>());
    assert_eq!(
        reader.page_events_max() * Cursor::BYTES_MAX / CHUNK_BYTES_MAX,
        0
    );
}

#[test]
fn channels_take_turns_and_a_channel_that_waits_for_a_page_delays_no_other() {
    let mut tails = [tail(5), tail(0), tail(5)];
    // The channel in the middle is behind its tail.
    tails[1].join(EventId::new(9, 0));
    let mut reader = subscription(3, Position::After(EventId::ZERO));
    assert!(matches!(
        reader.next(|nth| &tails[nth], None),
        MultiStep::Write(_)
    ));
    let MultiStep::Fetch(fetch) = reader.next(|nth| &tails[nth], None) else {
        panic!("no page is fetched")
    };
    assert_eq!(fetch.nth, 1);
    let MultiStep::Write(chunk) = reader.next(|nth| &tails[nth], Some(1)) else {
        panic!("the third channel is delayed")
    };
    assert_eq!(chunk.events, 5);
    assert_eq!(reader.next(|nth| &tails[nth], Some(1)), MultiStep::Wait);
    // The id of each event has the positions of all channels.
    assert_eq!(
        reader.take_unsent_cursor().map(|cursor| cursor.to_string()),
        None
    );
}
