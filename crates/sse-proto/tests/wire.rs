//! The wire format for others: golden files byte for byte, and a parser of another project.

use bytes::{Bytes, BytesMut};
use eventsource_stream::Eventsource as _;
use futures::{StreamExt as _, executor::block_on, stream};
use proptest::prelude::*;
use sse_proto::{
    EventId,
    blocks::{Block, BlockSplitter, Item},
    wire,
};

fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

/// Compares the written bytes with a file in `tests/golden`, which a reader can check by eye.
fn assert_golden(name: &str, write: impl FnOnce(&mut BytesMut)) {
    let path = format!("{}/tests/golden/{name}.sse", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let written = written(write);
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(&golden),
        "{name}"
    );
    assert_eq!(written, golden, "{name}");
}

#[test]
fn the_written_bytes_match_the_golden_files() {
    let id = EventId::new(1_646_742_656_760, 5);
    let tutorial = r#""user_id: 662509bb-f276-4b3e-816b-37f9d41fc891, timestamp: 08-Mar-2022 (12:30:56.760261)""#;
    for (name, kind, data) in [
        ("tutorial", "click", tutorial),
        ("empty-data", "click", ""),
        ("line-feed", "click", "a\nb\n\nc\n"),
        ("carriage-return", "click", "a\rb\r\rc\r"),
        ("both", "click", "a\r\nb\r\n\r\nc\r\n"),
        (
            "forgery",
            "click",
            "x\nid: 9-9\n\nevent: gap\ndata: {}\r\rretry: 1\n: no comment",
        ),
        ("spaces", " ", " a  b "),
        (
            "unicode",
            "événement",
            "é€😀 \u{feff}\u{2028}\u{85}\u{b}\u{0}",
        ),
    ] {
        assert_golden(name, |out| wire::event(out, id, kind, data));
    }
    let retry = std::time::Duration::from_secs(3);
    assert_golden("opening", |out| {
        wire::opening(out, retry, Some(id), "channel sse");
    });
    assert_golden("opening-without-id", |out| {
        wire::opening(out, retry, None::<EventId>, "channel sse");
    });
    assert_golden("heartbeat", |out| wire::heartbeat(out, None::<EventId>));
    assert_golden("heartbeat-with-id", |out| wire::heartbeat(out, Some(id)));
}

/// Replaces CR and CR LF by LF, because every line break arrives as LF.
fn normalise_line_breaks(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

/// Splits `bytes` into reads of the given sizes, which repeat in a cycle.
fn split_into_reads<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut reads = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (read, rest) = bytes.split_at((*size).min(bytes.len()));
        reads.push(read);
        bytes = rest;
    }
    reads
}

proptest! {
    #[test]
    fn any_event_arrives_unchanged_for_any_sizes_of_the_reads(
        events in prop::collection::vec(("[^/\\p{Cc}]{1,20}", any::<String>(), any::<(u64, u64)>()), 1..5),
        lines in prop::collection::vec("[\r\n:id ]{0,8}", 5),
        sizes in prop::collection::vec(1_usize..40, 1..10),
    ) {
        let mut out = BytesMut::new();
        let mut expected = Vec::new();
        for ((kind, data, (ms, seq)), line) in events.iter().zip(&lines) {
            let (id, data) = (EventId::new(*ms, *seq), format!("{line}{data}"));
            wire::event(&mut out, id, kind, &data);
            expected.push((id.to_string(), kind.clone(), normalise_line_breaks(&data)));
        }
        let mut splitter = BlockSplitter::new(1 << 20);
        for read in split_into_reads(&out, &sizes) {
            splitter.push(read).expect("small enough");
        }
        let blocks: Vec<_> = std::iter::from_fn(|| splitter.next_item()).filter_map(into_block).collect();
        let blocks = blocks.into_iter().map(|block| Ok::<_, std::convert::Infallible>(format!("{}\n", block.text)));
        let parsed: Vec<_> = block_on(stream::iter(blocks).eventsource().collect());
        let parsed: Vec<_> = parsed
            .into_iter()
            .map(|event| event.expect("parses"))
            .map(|event| (event.id, event.event, event.data))
            .collect();
        prop_assert_eq!(parsed, expected);
    }
}

fn into_block(item: Item) -> Option<Block> {
    match item {
        Item::Block(block) => Some(block),
        Item::Retry(_) | Item::Comment(_) => None,
    }
}
