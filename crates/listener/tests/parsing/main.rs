//! One table of byte sequences, through both stream readers of the crate, wherever reads cut them.

mod cases;

use std::collections::BTreeSet;

use listener::{
    decode::{
        decoder::{Decoder, Item},
        resume::ResumeState,
    },
    load::event_reader::{self, EventReader, Scratch},
};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use crate::cases::CASES;

const EVENT_BYTES_MAX: usize = 16 << 20;
/// Number of random cuts per case.
const CUTS: u64 = 100;

/// The result of reading a stream.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Last event id, type, data.
    events: Vec<(String, String, String)>,
    last_event_id: String,
    retry_ms: Option<u64>,
}

/// The reader of `listener`, which parses with `eventsource-stream`.
fn read_with_decoder(pieces: &[&[u8]]) -> Read {
    let (mut decoder, mut resume, mut events) = (
        Decoder::new(EVENT_BYTES_MAX),
        ResumeState::default(),
        Vec::new(),
    );
    for piece in pieces {
        decoder.push(piece).expect("small enough");
        while let Some(item) = decoder.next_item(&mut resume).expect("parses") {
            match item {
                Item::Event(event) => events.push((event.id, event.kind, event.data)),
                Item::Comment(text) => panic!("a comment that was not requested: {text}"),
            }
        }
    }
    let retry_ms = resume
        .retry()
        .map(|retry| u64::try_from(retry.as_millis()).expect("came as 64 bits"));
    Read {
        events,
        last_event_id: resume.last_event_id().to_owned(),
        retry_ms,
    }
}

/// The reader of `listener bench`, which creates no strings.
fn read_with_event_reader(pieces: &[&[u8]]) -> Read {
    let (mut reader, mut scratch, mut events) = (
        EventReader::new(EVENT_BYTES_MAX),
        Scratch::default(),
        Vec::new(),
    );
    for piece in pieces {
        let take = |item: event_reader::Item<'_>| {
            if let event_reader::Item::Event(event) = item {
                events.push((
                    event.id_text().into(),
                    event.kind_text().into(),
                    event.data_text().into(),
                ));
            }
        };
        reader
            .push(&mut scratch, piece, take)
            .expect("small enough");
    }
    Read {
        events,
        last_event_id: reader.last_event_id().into_owned(),
        retry_ms: reader.retry_ms(),
    }
}

type Reader = fn(&[&[u8]]) -> Read;

const READERS: [(&str, Reader); 2] = [
    ("listener", read_with_decoder),
    ("bench", read_with_event_reader),
];

/// Runs every case through every reader, in pieces that are cut by `cut`.
fn run(how: &str, cut: impl for<'b> Fn(&'b [u8]) -> Vec<&'b [u8]>) {
    for case in CASES {
        let events = case
            .events
            .iter()
            .map(|(id, kind, data)| ((*id).to_owned(), (*kind).to_owned(), (*data).to_owned()));
        let expected = Read {
            events: events.collect(),
            last_event_id: case.last_event_id.to_owned(),
            retry_ms: case.retry_ms,
        };
        for (name, reader) in READERS {
            let read = reader(&cut(case.bytes));
            assert_eq!(
                read,
                expected,
                "{name}, {how}: {} in {}",
                case.rule,
                case.bytes.escape_ascii()
            );
        }
    }
}

#[test]
fn no_case_of_the_table_is_repeated() {
    let rules: BTreeSet<_> = CASES.iter().map(|case| case.rule).collect();
    assert_eq!(rules.len(), CASES.len());
    assert!(CASES.len() >= 60, "{}", CASES.len());
}

#[test]
fn every_case_in_one_piece() {
    run("whole", |bytes| vec![bytes]);
}

#[test]
fn every_case_byte_by_byte() {
    run("byte by byte", |bytes| bytes.chunks(1).collect());
}

#[test]
fn every_case_with_empty_reads_between() {
    run("with empty reads", |bytes| {
        bytes.chunks(1).flat_map(|byte| [byte, &[]]).collect()
    });
}

#[test]
fn every_case_cut_at_every_place() {
    let longest = CASES
        .iter()
        .map(|case| case.bytes.len())
        .max()
        .unwrap_or_default();
    for place in 0..=longest {
        run(&format!("cut at {place}"), |bytes| {
            <[_; 2]>::from(bytes.split_at(place.min(bytes.len()))).to_vec()
        });
    }
}

#[test]
fn every_case_cut_at_random() {
    for seed in 0..CUTS {
        run(&format!("random cuts of seed {seed}"), |bytes| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let (mut pieces, mut rest) = (Vec::new(), bytes);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.random_range(1..=rest.len().min(12)));
                pieces.push(piece);
                rest = after;
            }
            pieces
        });
    }
}
