//! Cases of the event reader.

use super::{
    block::{COPIED_BYTES_MAX, SCRATCH_BYTES_MAX},
    *,
};

type EventText = (String, String, String);

fn read(chunks: &[&[u8]], reader: &mut EventReader) -> Vec<EventText> {
    let (mut scratch, mut events_read) = (Scratch::default(), Vec::new());
    for chunk in chunks {
        reader
            .push(&mut scratch, chunk, |item| {
                let Item::Event(event) = item else { return };
                events_read.push((
                    event.id_text().into(),
                    event.kind_text().into(),
                    event.data_text().into(),
                ));
            })
            .expect("within the limit");
    }
    events_read
}

#[test]
fn events_are_the_same_wherever_the_bytes_are_split() {
    type Case = (
        &'static [u8],
        &'static [(&'static str, &'static str, &'static str)],
        &'static str,
    );
    let cases: &[Case] = &[
        (b"data: a\n\n", &[("0-0", "message", "a")], "0-0"),
        (
            b"\xEF\xBB\xBFid: 1\nevent: click\ndata: a\n\n",
            &[("1", "click", "a")],
            "1",
        ),
        (
            b"event:click\rdata:a\rdata: b\r\rdata\r\r",
            &[("0-0", "click", "a\nb"), ("0-0", "message", "")],
            "0-0",
        ),
        (
            b"data: a\r\n\r\ndata:  b\r\n\r\n",
            &[("0-0", "message", "a"), ("0-0", "message", " b")],
            "0-0",
        ),
        (
            b"id: 1\n\ndata: a\n\nid\ndata: b\n\n",
            &[("1", "message", "a"), ("", "message", "b")],
            "",
        ),
        (
            b"data: a\xFFb\xE2\x82\ndata: c\n\n",
            &[("0-0", "message", "a\u{fffd}b\u{fffd}\nc")],
            "0-0",
        ),
        (b"id: 1\n\nid: 2\ndata: unfinished\n", &[], "1"),
        (
            b"id: a\0b\nevent: x\nevent:\ndata: a\n\n",
            &[("0-0", "message", "a")],
            "0-0",
        ),
        (
            b"event: x\n\ndata:\ndata:\n\n: c\n\n",
            &[("0-0", "message", "\n")],
            "0-0",
        ),
    ];
    for (bytes, expected, last_event_id) in cases {
        for size in [1, 2, 3, 7, bytes.len()] {
            let mut reader = EventReader::new(1 << 20).starting_after("0-0");
            let events_read = read(&bytes.chunks(size).collect::<Vec<_>>(), &mut reader);
            let events_read: Vec<_> = events_read
                .iter()
                .map(|(id, kind, data)| (&**id, &**kind, &**data))
                .collect();
            assert_eq!(
                events_read,
                *expected,
                "{:?} by {size}",
                bytes.escape_ascii().to_string()
            );
            assert_eq!(
                reader.last_event_id(),
                *last_event_id,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn readers_that_share_a_scratch_keep_their_blocks_apart() {
    let mut scratch = Scratch::default();
    let (mut one, mut other) = (EventReader::new(1 << 20), EventReader::new(1 << 20));
    let large = "x".repeat(3 * COPIED_BYTES_MAX);
    let mut events_read = Vec::new();
    let mut push = |reader: &mut EventReader, bytes: &str| {
        let handle = |item: Item<'_>| {
            if let Item::Event(event) = item {
                events_read.push(format!(
                    "{} {} {}",
                    event.id_text(),
                    event.kind_text(),
                    event.data_text()
                ));
            }
        };
        reader
            .push(&mut scratch, bytes.as_bytes(), handle)
            .expect("small");
    };
    push(&mut one, "id: 1\nevent: a\nda");
    push(&mut other, &format!("id: 2\nevent: b\ndata: {large}\nda"));
    push(&mut one, "ta: x\n");
    push(&mut other, "ta: y\n\n");
    push(&mut one, "\n");
    assert_eq!(events_read, [format!("2 b {large}\ny"), "1 a x".to_owned()]);
}

#[test]
fn a_disconnect_drops_the_unfinished_block_and_keeps_the_id() {
    let mut reader = EventReader::new(1 << 20);
    assert!(read(&[b"id: 1\nretry: 20\n\nid: 2\ndata: a\nda"], &mut reader).is_empty());
    reader.disconnect();
    assert_eq!(
        (reader.last_event_id().as_ref(), reader.retry_ms()),
        ("1", Some(20))
    );
    assert_eq!(read(&[b"\xEF\xBB\xBFdata: b\n\n"], &mut reader)[0].2, "b");
}

#[test]
fn an_event_beyond_the_limit_is_an_error_after_the_events_before_it() {
    let (mut reader, mut scratch, mut events) = (EventReader::new(20), Scratch::default(), 0);
    let bytes = b": 0123456789\n: 0123456789\ndata: a\n\ndata: 012345678901234567890\n\n";
    let pushed = reader.push(&mut scratch, bytes, |item| {
        events += usize::from(matches!(item, Item::Event(_)));
    });
    assert_eq!((pushed, events), (Err(EventTooLarge { bytes_max: 20 }), 1));
}

#[test]
fn the_memory_of_a_large_event_is_freed() {
    let (mut reader, mut scratch) = (EventReader::new(4 << 20), Scratch::default());
    let line = format!("data: {}\n", "x".repeat(100 << 10));
    for _ in 0..20 {
        reader
            .push(&mut scratch, line.as_bytes(), |_| {})
            .expect("within the limit");
    }
    assert_eq!(scratch.0.data.capacity(), 0, "moved to the connection");
    reader
        .push(&mut scratch, b"\n", |_| {})
        .expect("within the limit");
    assert!(reader.unfinished.is_none() && scratch.0.data.capacity() <= SCRATCH_BYTES_MAX);
}
