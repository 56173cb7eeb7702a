//! Reads a recording in chunks, on a thread of its own.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    time::Instant,
};

use tokio::sync::mpsc::Sender;

use super::{
    line::{AllowedTypes, ParsedLine, RecordedEvent, parse_line},
    recording::{Recording, ReplayError},
};

/// Longest line. No event is larger.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Editors on Windows begin a file with these bytes.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// A chunk is sent when it has this size, or when reading more would have to wait.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) events: VecDeque<RecordedEvent>,
    pub(super) read: Instant,
    pub(super) skipped: u64,
}

impl Chunk {
    fn new() -> Self {
        Self {
            events: VecDeque::new(),
            read: Instant::now(),
            skipped: 0,
        }
    }
}

/// The thread that reads a recording.
pub(super) struct Reader<R> {
    input: BufReader<R>,
    recording: Recording,
    types: AllowedTypes,
    line: u64,
    text: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R, recording: Recording, types: AllowedTypes) -> Self {
        Self {
            input: BufReader::with_capacity(CHUNK_BYTES, input),
            recording,
            types,
            line: 0,
            text: Vec::new(),
        }
    }

    /// Sends all chunks, until the recording ends or the receiver is dropped.
    pub(super) fn send_all(mut self, chunks: &Sender<Result<Chunk, ReplayError>>) {
        loop {
            let (chunk, end) = self.read_chunk();
            // The events before a bad line are sent before the error.
            if (!chunk.events.is_empty() || chunk.skipped > 0)
                && chunks.blocking_send(Ok(chunk)).is_err()
            {
                return;
            }
            match end {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The receiver is gone once the run is over.
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            }
        }
    }

    /// Reads the next events. The result is `true` if there may be more.
    fn read_chunk(&mut self) -> (Chunk, Result<bool, ReplayError>) {
        let mut chunk = Chunk::new();
        let end = self.fill_chunk(&mut chunk);
        chunk.read = Instant::now();
        (chunk, end)
    }

    fn fill_chunk(&mut self, chunk: &mut Chunk) -> Result<bool, ReplayError> {
        let mut bytes = 0;
        loop {
            if !self.read_line()? {
                return Ok(false);
            }
            bytes += self.text.len();
            match parse_line(&self.text, self.types) {
                Ok(Some(ParsedLine::Event(event))) => chunk.events.push_back(event),
                Ok(Some(ParsedLine::Reserved)) => chunk.skipped += 1,
                Ok(None) => {}
                Err(why) => return Err(self.line_error(why)),
            }
            // Reading the next line of a pipe may take long: do not delay the events that were
            // read.
            if bytes >= CHUNK_BYTES || !self.input.buffer().contains(&b'\n') {
                return Ok(true);
            }
        }
    }

    /// Reads a line into `text`. Returns `false` at the end of the recording.
    fn read_line(&mut self) -> Result<bool, ReplayError> {
        self.text.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        match (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.text)
        {
            Ok(0) => return Ok(false),
            Ok(_) => self.begin_line(),
            Err(source) => {
                return Err(ReplayError::Read {
                    recording: self.recording.clone(),
                    line: self.line,
                    source,
                });
            }
        }
        if self.text.len() > LINE_BYTES_MAX {
            return Err(self.line_error(format!(
                "longer than {LINE_BYTES_MAX} bytes; no event is that long"
            )));
        }
        Ok(true)
    }

    /// Counts the line in `text`. A byte order mark at the start of the recording is no part of it.
    fn begin_line(&mut self) {
        self.line += 1;
        if self.line == 1 && self.text.starts_with(BYTE_ORDER_MARK) {
            self.text.drain(..BYTE_ORDER_MARK.len());
        }
    }

    fn line_error(&self, why: String) -> ReplayError {
        ReplayError::Line {
            recording: self.recording.clone(),
            line: self.line,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;
    use sse_proto::EventType;

    use super::*;
    use crate::payload::event::{DataFormat, NextEvent};

    /// Returns the events as type and data, the number of skipped events, and the error.
    fn read(text: &[u8]) -> (Vec<(String, DataFormat, String)>, u64, Option<String>) {
        read_types(AllowedTypes::SseServer, text)
    }

    fn read_types(
        types: AllowedTypes,
        text: &[u8],
    ) -> (Vec<(String, DataFormat, String)>, u64, Option<String>) {
        let mut reader = Reader::new(text, Recording::Stdin, types);
        let (mut events, mut skipped) = (Vec::new(), 0);
        loop {
            let (chunk, end) = reader.read_chunk();
            skipped += chunk.skipped;
            let plain =
                |RecordedEvent { event, data }| (NextEvent::type_text(&event), event.format, data);
            events.extend(chunk.events.into_iter().map(plain));
            match end {
                Ok(true) => {}
                Ok(false) => return (events, skipped, None),
                Err(error) => return (events, skipped, Some(error.to_string())),
            }
        }
    }

    impl NextEvent {
        fn type_text(&self) -> String {
            self.event_type.as_str().to_owned()
        }
    }

    #[test]
    fn lines_of_the_listener_the_history_and_a_batch_are_read() {
        let text = concat!(
            r#"{"id":"5-0","event":"view","data":"a\nb"}"#,
            "\r\n\n",
            r#"{"id":"5-1","event":"click","data":"{\"a\": 1}","time":"2026-11-24T00:00:00.000Z"}"#,
            "\n",
            r#"{"event":"b\"x","data":{"a": 1.0, "a":[1 , 2]},"more":[1]}"#,
            "\n",
            r#" {"data":null,"event":"c"}"#,
        );
        let events: Vec<_> = [
            ("view", DataFormat::Text, "a\nb"),
            ("click", DataFormat::Text, r#"{"a": 1}"#),
            ("b\"x", DataFormat::Json, r#"{"a":1.0,"a":[1,2]}"#),
            ("c", DataFormat::Json, "null"),
        ]
        .map(|(event_type, format, data)| (event_type.to_owned(), format, data.to_owned()))
        .into();
        assert_eq!(read(text.as_bytes()), (events, 0, None));
    }

    #[test]
    fn a_byte_order_mark_at_the_start_is_skipped() {
        let line = "{\"event\":\"a\",\"data\":\"x\"}\n";
        let event = ("a".to_owned(), DataFormat::Text, "x".to_owned());
        let text = format!("\u{feff}{line}{line}");
        assert_eq!(
            read(text.as_bytes()),
            (vec![event.clone(), event.clone()], 0, None)
        );
        assert_eq!(read("\u{feff}".as_bytes()), (vec![], 0, None));
        let (events, _, error) = read(format!("{line}\u{feff}{line}").as_bytes());
        assert_eq!(events, [event]);
        assert!(error.is_some_and(|error| error.starts_with("stdin, line 2: ")));
    }

    #[test]
    fn events_of_reserved_types_are_skipped() {
        let text = br#"{"event":"gap","data":"{}"}"#;
        for types in [AllowedTypes::SseServer, AllowedTypes::AnyServer] {
            assert_eq!(read_types(types, text), (vec![], 1, None));
        }
    }

    #[test]
    fn comments_are_skipped() {
        let text = concat!(
            r#"{"comment":"channel sse"}"#,
            "\n",
            r#"{"event":"a","data":"x"}"#,
            "\n",
            r#"{"comment":""}"#,
            "\n",
            r#"{"comment":"beside an event","event":"b","data":"y"}"#,
        );
        let event = |event_type: &str, data: &str| {
            (event_type.to_owned(), DataFormat::Text, data.to_owned())
        };
        assert_eq!(
            read(text.as_bytes()),
            (vec![event("a", "x"), event("b", "y")], 0, None)
        );
    }

    #[test]
    fn another_server_may_have_other_types() {
        let long = "x".repeat(200);
        for event_type in ["a/b", &long] {
            let line = serde_json::json!({ "event": event_type, "data": "x" }).to_string();
            let expected = (
                vec![(event_type.to_owned(), DataFormat::Text, "x".to_owned())],
                0,
                None,
            );
            assert_eq!(
                read_types(AllowedTypes::AnyServer, line.as_bytes()),
                expected
            );
            assert!(
                read(line.as_bytes())
                    .2
                    .is_some_and(|error| error.contains("1 to 128 bytes")),
                "{event_type}"
            );
        }
        for bad in ["", "a\nb"] {
            let line = serde_json::json!({ "event": bad, "data": "x" }).to_string();
            let (_, _, error) = read_types(AllowedTypes::AnyServer, line.as_bytes());
            assert!(
                error.is_some_and(|error| error.contains("without control characters")),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn an_invalid_line_is_reported_after_the_events_before_it() {
        for bad in [
            &br#"{"event":"a"}"#[..],
            br#"{"data":1}"#,
            br#"{"comment":"c","data":1}"#,
            br#"{"event":"a/b","data":1}"#,
            br#"{"event":"a","data":"\ud800"}"#,
            br#"{"event":"a","data":1"#,
            br#"{"event":"a","data":1} x"#,
            b"data: 1",
            b"[]",
            b"\xff",
        ] {
            let text = [&b"{\"event\":\"a\",\"data\":1}\n\n"[..], bad, b"\n"].concat();
            let (events, _, error) = read(&text);
            assert_eq!(events.len(), 1, "{bad:?}");
            assert!(error.unwrap().starts_with("stdin, line 3: "), "{bad:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_rejected_before_it_fills_the_memory() {
        let mut reader = Reader::new(io::repeat(b'x'), Recording::Stdin, AllowedTypes::SseServer);
        assert!(
            reader
                .read_chunk()
                .1
                .unwrap_err()
                .to_string()
                .contains("line 1: longer than")
        );
    }

    proptest! {
        #[test]
        fn any_text_that_the_listener_prints_is_read_back(event_type in "[^/\\p{Cc}]{1,30}", data in any::<String>()) {
            prop_assume!(!EventType::RESERVED.contains(&event_type.as_str()));
            let line = serde_json::json!({ "id": "1-0", "event": event_type, "data": data }).to_string();
            prop_assert_eq!(read(line.as_bytes()), (vec![(event_type, DataFormat::Text, data)], 0, None));
        }
    }
}
