//! The limits of a tail, and what it counts.

use super::*;

fn stored(ms: u64) -> Stored {
    Stored {
        id: EventId::new(ms, 0),
        kind: "click".into(),
        data: "x".into(),
    }
}

fn frames(events_max: usize, bytes_max: usize) -> Frames {
    let mut frames = Frames::new(TailLimits {
        events_max: NonZeroUsize::new(events_max).unwrap(),
        bytes_max,
    });
    frames.join(EventId::ZERO);
    frames
}

/// What a tail takes for one more event of the same type.
fn one_frame_bytes() -> usize {
    let mut frames = frames(10, usize::MAX);
    frames.push(vec![stored(1)]);
    let before = frames.frame_bytes(1);
    frames.push(vec![stored(2)]);
    frames.frame_bytes(2) - before
}

#[test]
fn the_floor_rises_to_the_newest_event_dropped() {
    for mut frames in [frames(3, usize::MAX), frames(100, 3 * one_frame_bytes())] {
        // Each event has a buffer of its own.
        for ms in 1..=5 {
            frames.push(vec![stored(ms)]);
        }
        assert_eq!(frames.floor(), EventId::new(2, 0));
        assert_eq!(frames.end(), EventId::new(5, 0));
        assert!(frames.knows(EventId::new(2, 0)) && frames.knows(EventId::new(4, 0)));
        assert!(!frames.knows(EventId::new(1, 0)) && !frames.knows(EventId::new(4, 1)));
        assert_eq!(
            frames
                .after(EventId::new(3, 7))
                .map(|frame| frame.id.ms)
                .collect::<Vec<_>>(),
            [4, 5]
        );
    }
}

#[test]
fn an_event_larger_than_the_whole_tail_leaves_it_empty_but_joined() {
    let mut frames = frames(10, 5);
    frames.push(vec![stored(1)]);
    assert_eq!(
        (frames.floor(), frames.end()),
        (EventId::new(1, 0), EventId::new(1, 0))
    );
    assert_eq!(frames.after(EventId::ZERO).count(), 0);
}

#[test]
fn rewinding_drops_the_lost_events_and_keeps_the_generation() {
    for (back_to, floor, kept) in [(4, 2, vec![3, 4]), (2, 2, vec![]), (1, 1, vec![])] {
        let mut frames = frames(3, usize::MAX);
        frames.push((1..=5).map(stored).collect());
        let (generation, epoch) = (frames.generation(), frames.epoch());
        frames.rewind(EventId::new(back_to, 0));
        assert_eq!(
            (frames.floor(), frames.end()),
            (EventId::new(floor, 0), EventId::new(back_to, 0))
        );
        assert_eq!(
            frames
                .after(EventId::ZERO)
                .map(|frame| frame.id.ms)
                .collect::<Vec<_>>(),
            kept
        );
        assert_eq!(
            (frames.generation(), frames.knows(EventId::new(5, 0))),
            (generation, false)
        );
        assert_ne!(frames.epoch(), epoch, "pages read earlier may be wrong");
        frames.push(vec![stored(7)]);
        let charges = frames.after(EventId::ZERO).map(Frame::charge);
        assert_eq!(frames.charges, charges.sum::<usize>());
    }
}

#[test]
fn joining_again_starts_another_generation() {
    let mut frames = frames(10, usize::MAX);
    let before = frames.generation();
    frames.push(vec![stored(1)]);
    frames.join(EventId::new(9, 0));
    assert_ne!(frames.generation(), before);
    assert!(!frames.knows(EventId::new(1, 0)) && frames.knows(EventId::new(9, 0)));
}

#[test]
fn a_buffer_is_counted_until_its_last_frame_is_dropped() {
    let mut frames = frames(10, usize::MAX);
    frames.push((1..=4).map(stored).collect());
    let all = frames.charges;
    // Rewinding drops the last frame of the buffer first, and dropping the oldest the first one.
    frames.rewind(EventId::new(3, 0));
    frames.drop_oldest();
    frames.drop_oldest();
    assert_eq!((frames.charges, frames.newest.len()), (all, 1));
    frames.drop_oldest();
    assert_eq!((frames.charges, frames.floor()), (0, EventId::new(3, 0)));
}

#[test]
fn a_tail_counts_in_the_shared_memory_until_it_is_dropped() {
    let memory = TailMemory::unlimited();
    let limits = TailLimits {
        events_max: NonZeroUsize::new(100).unwrap(),
        bytes_max: 1 << 20,
    };
    let mut frames = Frames::in_memory(limits, memory.clone());
    frames.join(EventId::ZERO);
    assert_eq!(memory.bytes(), 0);
    let large = |ms| Stored {
        data: "x".repeat(100_000).into(),
        ..stored(ms)
    };
    frames.push((1..=20).map(large).collect());
    assert_eq!(memory.bytes(), frames.bytes());
    let data: usize = frames
        .after(EventId::ZERO)
        .map(|frame| frame.bytes.len())
        .sum();
    assert!(data > 700_000 && data < 1 << 20, "{data}");
    assert!(memory.bytes() > data && memory.bytes() <= (1 << 20) + 4096);
    frames.add_envelope_bytes(1000);
    assert_eq!(memory.bytes(), frames.bytes());
    frames.enveloped = AtomicUsize::new(0);
    assert!(frames.cut(frames.bytes() - 300_000));
    assert!(memory.bytes() == frames.bytes() && frames.bytes() <= 300_000);
    assert_eq!(
        (frames.end(), frames.after(EventId::ZERO).count()),
        (EventId::new(20, 0), 2)
    );
    assert!(!frames.cut(usize::MAX));
    assert_eq!(frames.floor(), EventId::new(20, 0));
    drop(frames);
    assert_eq!(memory.bytes(), 0);
}

#[test]
fn a_tail_does_not_keep_the_buffer_from_which_it_was_read() {
    let body = bytestring::ByteString::from("click".repeat(1000));
    let mut frames = frames(10, usize::MAX);
    let event = Stored {
        kind: body.slice_ref(&body[..5]),
        ..stored(1)
    };
    frames.push(vec![event]);
    let frame = frames.after(EventId::ZERO).next().unwrap();
    assert!(frame.kind == "click" && frame.kind.as_ptr() != body.as_ptr());
}
