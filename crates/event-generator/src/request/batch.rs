//! Events that gather until they are enough for one request: the NDJSON of `POST /events`.

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    payload::lane::Lane,
    payload::{DataFormat, NextEvent},
};

/// A batch that would be larger goes without its last event: servers take no larger ones (ours: `--batch-bytes-max`).
const BATCH_BYTES_MAX: usize = 16 << 20;

/// The events that wait for the rest of their batch. All of them are sent, or none.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    size: usize,
    lines: Vec<u8>,
    /// When each was due.
    dues: Vec<Instant>,
    first: u64,
    lane: Option<Lane>,
}

/// A batch that is complete, or that the end of the run completes.
#[derive(Debug)]
pub(crate) struct CompleteBatch {
    /// The number of its first event in the run; the others follow.
    pub(crate) first: u64,
    /// Their lane, with the number of the first in it.
    pub(crate) lane: Lane,
    /// No later event has a number in that lane.
    pub(crate) frees_lane: bool,
    /// When each of its events was due.
    pub(crate) dues: Vec<Instant>,
    /// A line for each.
    pub(crate) lines: Bytes,
}

impl BatchBuilder {
    /// Batches of `size` events, more than one.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            lines: Vec::new(),
            dues: Vec::with_capacity(size.min(1024)),
            first: 0,
            lane: None,
        }
    }

    /// The lane that the next event belongs to, if a batch has begun.
    pub(crate) fn lane(&self) -> Option<Lane> {
        self.lane.map(|lane| Lane {
            next: lane.next + self.dues.len() as u64,
            ..lane
        })
    }

    /// Adds the event with this number in the run, in this lane: the batch that is complete then, if one is.
    pub(crate) fn push(
        &mut self,
        sequence: u64,
        lane: Lane,
        due: Instant,
        event: &NextEvent,
        data: &str,
    ) -> Option<CompleteBatch> {
        let bytes = self.lines.len();
        write_line(event, data, &mut self.lines);
        let full = if self.lines.len() > BATCH_BYTES_MAX && bytes > 0 {
            let last = self.lines.split_off(bytes);
            // The lane goes on with the next batch, which must not wait: here order is not promised.
            let full = self.finish().map(|full| CompleteBatch {
                frees_lane: false,
                ..full
            });
            self.lines = last;
            full
        } else {
            None
        };
        if self.dues.is_empty() {
            self.first = sequence;
            self.lane = Some(lane);
        }
        self.dues.push(due);
        // A batch of one is no batch: an event cannot both begin and complete one.
        full.or_else(|| {
            if self.dues.len() < self.size {
                None
            } else {
                self.finish()
            }
        })
    }

    /// What has gathered, if anything has.
    pub(crate) fn finish(&mut self) -> Option<CompleteBatch> {
        let lane = self.lane.take()?;
        // The next batch is likely to be as long.
        let (lines, dues) = (
            Vec::with_capacity(self.lines.len() + 256),
            Vec::with_capacity(self.dues.len()),
        );
        Some(CompleteBatch {
            first: self.first,
            lane,
            frees_lane: true,
            dues: std::mem::replace(&mut self.dues, dues),
            lines: std::mem::replace(&mut self.lines, lines).into(),
        })
    }
}

/// A line like `{"event":"view","data":…}`.
///
/// The server sends a string as its text and any other value as its JSON. So the data of an event arrives as it does
/// when the event is posted by itself: JSON other than a string stays as it is, and all else becomes a string.
fn write_line(event: &NextEvent, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"#);
    write_string(event.event_type.as_str(), out);
    out.extend_from_slice(br#","data":"#);
    match event.format {
        DataFormat::Json if !data.starts_with('"') => out.extend_from_slice(data.as_bytes()),
        DataFormat::Json | DataFormat::Text => write_string(data, out),
    }
    out.extend_from_slice(b"}\n");
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes any JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sse_proto::api::BatchLine;

    use super::*;

    fn push(
        batch: &mut BatchBuilder,
        sequence: u64,
        format: DataFormat,
        data: &str,
    ) -> Option<CompleteBatch> {
        let lane = batch.lane().unwrap_or(Lane {
            number: 1,
            next: 10,
        });
        batch.push(
            sequence,
            lane,
            Instant::now(),
            &NextEvent {
                event_type: "a\"b".parse().unwrap(),
                format,
            },
            data,
        )
    }

    #[test]
    fn a_batch_goes_with_its_last_event_and_the_rest_at_the_end() {
        let mut batch = BatchBuilder::new(2);
        assert!(push(&mut batch, 0, DataFormat::Json, "0").is_none());
        let full = push(&mut batch, 1, DataFormat::Json, "1").unwrap();
        assert_eq!(
            (full.first, full.lane.next, full.frees_lane, full.dues.len()),
            (0, 10, true, 2)
        );
        assert!(push(&mut batch, 2, DataFormat::Json, "2").is_none());
        let rest = batch.finish().unwrap();
        assert_eq!((rest.first, rest.dues.len()), (2, 1));
        assert!(batch.finish().is_none());
    }

    #[test]
    fn a_batch_that_would_be_too_large_goes_without_its_last_event() {
        let mut batch = BatchBuilder::new(100);
        let large = format!("\"{}\"", "x".repeat(7 << 20));
        assert!(
            push(&mut batch, 0, DataFormat::Json, &large).is_none()
                && push(&mut batch, 1, DataFormat::Json, &large).is_none()
        );
        let full = push(&mut batch, 2, DataFormat::Json, &large).unwrap();
        assert_eq!(
            (full.first, full.dues.len(), full.lines.ends_with(b"}\n")),
            (0, 2, true)
        );
        assert!(!full.frees_lane);
        let rest = batch.finish().unwrap();
        assert_eq!((rest.lane.next, rest.frees_lane), (12, true));
        assert_eq!(
            (
                rest.first,
                rest.dues.len(),
                rest.lines.len() < full.lines.len()
            ),
            (2, 1, true)
        );
    }

    #[test]
    fn every_data_arrives_as_it_would_by_itself() {
        let mut batch = BatchBuilder::new(3);
        push(&mut batch, 0, DataFormat::Json, r#"{"n":1.0}"#);
        push(&mut batch, 1, DataFormat::Json, r#""a""#);
        let lines = push(&mut batch, 2, DataFormat::Text, "two\nlines")
            .unwrap()
            .lines;
        let expected = concat!(
            r#"{"event":"a\"b","data":{"n":1.0}}"#,
            "\n",
            r#"{"event":"a\"b","data":"\"a\""}"#,
            "\n",
            r#"{"event":"a\"b","data":"two\nlines"}"#,
            "\n"
        );
        assert_eq!(lines, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_that_the_server_reads_as_that_text(data in any::<String>()) {
            let mut line = Vec::new();
            write_line(&NextEvent { event_type: "a".parse().unwrap(), format: DataFormat::Text }, &data, &mut line);
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            let line: BatchLine<'_> = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(line.data.get()).unwrap(), data);
        }
    }
}
