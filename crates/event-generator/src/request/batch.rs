//! Batches of events: the NDJSON bodies of `POST /events`.

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    payload::lane::Lane,
    payload::{DataFormat, NextEvent},
};

/// Largest batch. A batch that would be larger is sent without its last event, because servers
/// reject it; the limit of sse-server is `--batch-bytes-max`.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Collects events until a batch is complete. The server stores all events of a batch, or none.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    size: usize,
    lines: Vec<u8>,
    /// When each event was due.
    dues: Vec<Instant>,
    first: u64,
    lane: Option<Lane>,
}

/// A batch that can be sent: it is complete, or the run is over.
#[derive(Debug)]
pub(crate) struct CompleteBatch {
    /// Number of the first event in the run. The other events follow it.
    pub(crate) first: u64,
    /// Lane of the events, and the number of the first event in it.
    pub(crate) lane: Lane,
    /// Whether no later event has a number in the lane yet.
    pub(crate) frees_lane: bool,
    /// When each event was due.
    pub(crate) dues: Vec<Instant>,
    /// One line per event.
    pub(crate) lines: Bytes,
}

impl BatchBuilder {
    /// Collects batches of `size` events, more than one.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            lines: Vec::new(),
            dues: Vec::with_capacity(size.min(1024)),
            first: 0,
            lane: None,
        }
    }

    /// Returns the lane of the next event; `None` if no batch has begun.
    pub(crate) fn lane(&self) -> Option<Lane> {
        self.lane.map(|lane| Lane {
            next: lane.next + self.dues.len() as u64,
            ..lane
        })
    }

    /// Adds the event with the number `sequence` in the run. Returns the batch that this event
    /// completes.
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
        let is_too_large = self.lines.len() > BATCH_BYTES_MAX && bytes > 0;
        let full = is_too_large.then(|| self.finish_before(bytes)).flatten();
        if self.dues.is_empty() {
            self.first = sequence;
            self.lane = Some(lane);
        }
        self.dues.push(due);
        // One event cannot both begin and complete a batch, because a batch has more than one
        // event.
        full.or_else(|| {
            if self.dues.len() < self.size {
                None
            } else {
                self.finish()
            }
        })
    }

    /// Returns the batch without the line that begins at `bytes`, which begins the next batch.
    fn finish_before(&mut self, bytes: usize) -> Option<CompleteBatch> {
        let last = self.lines.split_off(bytes);
        let full = self.finish();
        self.lines = last;
        // The lane continues with the next batch, which does not wait for this one: their order in
        // the log is not certain.
        full.map(|full| CompleteBatch {
            frees_lane: false,
            ..full
        })
    }

    /// Returns the events that wait for the rest of their batch; `None` if there are none.
    pub(crate) fn finish(&mut self) -> Option<CompleteBatch> {
        let lane = self.lane.take()?;
        // The next batch probably has the same size.
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

/// Writes a line like `{"event":"view","data":…}`.
///
/// The server sends a string as its text and any other value as its JSON. So that data arrives as
/// if the event had been posted alone, JSON other than a string is written as it is, and everything
/// else as a string.
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
    serde_json::to_writer(out, text).expect("a Vec accepts any JSON");
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
    fn a_batch_is_complete_with_its_last_event_and_the_rest_is_sent_at_the_end() {
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
    fn a_batch_that_would_be_too_large_is_sent_without_its_last_event() {
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
    fn data_in_a_batch_arrives_as_if_it_were_posted_alone() {
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
        fn any_text_is_one_line_that_the_server_reads_as_this_text(data in any::<String>()) {
            let mut line = Vec::new();
            write_line(&NextEvent { event_type: "a".parse().unwrap(), format: DataFormat::Text }, &data, &mut line);
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            let line: BatchLine<'_> = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(line.data.get()).unwrap(), data);
        }
    }
}
