//! Parsing cost is linear: a large event costs no more for a byte than small ones, however small
//! the reads are.
//!
//!     cargo bench -p listener --bench parsing
//!
//! The same number of bytes, in reads of 1 KiB: as events of about 200 bytes, as one event on one
//! line, and as one event of very many lines. Medians of several rounds, in turn. It fails if one
//! event takes more than 3 times as long as the small ones. As a test (without `--bench`) it only
//! runs once, on little.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use listener::decode::{
    decoder::{Decoder, Item},
    resume::ResumeState,
};

const READ_BYTES: usize = 1 << 10;
const EVENT_BYTES: usize = 16 << 20;
const ROUNDS: usize = 7;
const RATIO_MAX: f64 = 3.0;

fn main() -> ExitCode {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (bytes, rounds) = if is_bench {
        (EVENT_BYTES, ROUNDS)
    } else {
        (64 << 10, 1)
    };
    let streams = [
        ("events of 200 bytes", small_events(bytes)),
        ("one event, one line", one_event(bytes, usize::MAX)),
        ("one event, lines of 64 bytes", one_event(bytes, 64)),
    ];
    let mut times = streams.each_ref().map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, stream), times) in streams.iter().zip(&mut times) {
            times.push(read(stream));
        }
    }
    let medians = times.map(median);
    let mut is_linear = true;
    for ((name, stream), median) in streams.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        is_linear &= ratio <= RATIO_MAX;
        let mib = f64::from(u32::try_from(stream.len()).expect("a few MiB")) / f64::from(1 << 20);
        println!(
            "{name:28} {mib:5.1} MiB {median:>10.2?} {:7.0} MiB/s  ratio {ratio:.2}",
            mib / median.as_secs_f64()
        );
    }
    if is_linear || !is_bench {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How long it takes until all events are there.
fn read(stream: &[u8]) -> Duration {
    let start = Instant::now();
    let (mut decoder, mut resume, mut events) =
        (Decoder::new(2 * EVENT_BYTES), ResumeState::default(), 0);
    for bytes in stream.chunks(READ_BYTES) {
        decoder.push(bytes).expect("small enough");
        while let Some(item) = decoder.next_item(&mut resume).expect("parses") {
            events += usize::from(matches!(item, Item::Event(_)));
        }
    }
    assert!(events > 0, "a stream without an event measures nothing");
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn small_events(bytes: usize) -> Vec<u8> {
    let data = "x".repeat(160);
    let event = format!("id: 1700000000000-0\nevent: click\ndata: {data}\n\n");
    event
        .as_bytes()
        .iter()
        .copied()
        .cycle()
        .take(bytes / event.len() * event.len())
        .collect()
}

/// One event of `bytes` bytes, in lines of at most `line_bytes`.
fn one_event(bytes: usize, line_bytes: usize) -> Vec<u8> {
    let value_bytes = line_bytes.min(bytes) - "data:\n".len();
    let line = format!("data:{}\n", "x".repeat(value_bytes));
    let mut stream = line.repeat(bytes / line.len()).into_bytes();
    stream.push(b'\n');
    stream
}
