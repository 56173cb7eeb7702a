//! The record file: one line for every event and every gap that was received
//! ([`sse_proto::record::Received`]).
//!
//! Each line is one write, so that a listener that is killed leaves whole lines of everything that
//! it received.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use sse_cli::record_file::{RecordError, RecordFile};
use sse_proto::{
    api::Gap,
    record::{Received, Stamp},
};

use crate::decode::decoder::Event;

/// The open record file.
#[derive(Debug)]
pub struct Record(RecordFile);

impl Record {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    ///
    /// [`RecordError::Create`].
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        RecordFile::create(path).map(Self)
    }

    /// Adds an event, received now.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`].
    pub fn record_event(&mut self, event: &Event) -> Result<(), RecordError> {
        self.write_line(&received_event(event, unix_time_us()))
    }

    /// Adds a gap, which `event` reported.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`].
    pub fn record_gap(&mut self, event: &Event, gap: &Gap) -> Result<(), RecordError> {
        self.write_line(&Received::Gap {
            id: event.id.clone(),
            gap: gap.clone(),
        })
    }

    fn write_line(&mut self, received: &Received) -> Result<(), RecordError> {
        self.0.push_line(received);
        self.0.write_lines()
    }
}

fn received_event(event: &Event, received_us: u64) -> Received {
    Received::Event {
        id: event.id.clone(),
        event: event.kind.clone(),
        received_us,
        stamp: parse_stamp(&event.data),
    }
}

/// Returns the stamp of the publisher; `None` if the data is not a JSON object that contains one.
/// An array of the three values is not a stamp.
fn parse_stamp(data: &str) -> Option<Stamp> {
    if data.trim_start().starts_with('{') {
        serde_json::from_str(data).ok()
    } else {
        None
    }
}

fn unix_time_us() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_read_from_an_object_that_contains_all_of_it() {
        let found =
            parse_stamp(r#" {"user":"u","sequence":7,"publisher":"p","sent_us":8,"more":[1]}"#);
        assert_eq!(
            found,
            Some(Stamp {
                publisher: "p".to_owned(),
                sequence: 7,
                sent_us: 8
            })
        );
        for other in [
            r#"["p",7,8]"#,
            r#"{"publisher":"p","sequence":7}"#,
            r#"{"publisher":"p","sequence":-7,"sent_us":8}"#,
            r#""user_id: 1""#,
            "{",
            "",
        ] {
            assert_eq!(parse_stamp(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_line_is_in_the_file_as_soon_as_it_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("got.ndjson");
        std::fs::write(&path, "old").unwrap();
        let mut record = Record::create(&path).unwrap();
        let event = Event {
            id: "1-0".to_owned(),
            kind: "click".to_owned(),
            data: "a".to_owned(),
            end: 0,
        };
        record.record_event(&event).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"event","id":"1-0","event":"click","received_us":1"#),
            "{text}"
        );
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_created_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            Record::create(&directory.path().join("absent").join("got.ndjson")).unwrap_err();
        assert!(error.to_string().contains("got.ndjson"), "{error}");
    }
}
