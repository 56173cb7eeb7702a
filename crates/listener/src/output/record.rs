//! The record file: what was received, gaps included, a line each ([`sse_proto::record::Received`]).
//!
//! A line is one write, so that a listener that is killed leaves whole lines of all that it got.

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
    pub fn event(&mut self, event: &Event) -> Result<(), RecordError> {
        self.line(&received(event, now_us()))
    }

    /// Adds a gap, which `event` reported.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`].
    pub fn gap(&mut self, event: &Event, gap: &Gap) -> Result<(), RecordError> {
        self.line(&Received::Gap {
            id: event.id.clone(),
            gap: gap.clone(),
        })
    }

    fn line(&mut self, received: &Received) -> Result<(), RecordError> {
        self.0.push_line(received);
        self.0.write_lines()
    }
}

fn received(event: &Event, received_us: u64) -> Received {
    Received::Event {
        id: event.id.clone(),
        event: event.kind.clone(),
        received_us,
        stamp: stamp(&event.data),
    }
}

/// The publisher's stamp, if the data is a JSON object that has one. (An array of the three is not one.)
fn stamp(data: &str) -> Option<Stamp> {
    if data.trim_start().starts_with('{') {
        serde_json::from_str(data).ok()
    } else {
        None
    }
}

fn now_us() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_taken_from_an_object_that_has_all_of_it() {
        let found = stamp(r#" {"user":"u","sequence":7,"publisher":"p","sent_us":8,"more":[1]}"#);
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
            assert_eq!(stamp(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_line_is_there_as_soon_as_it_is_added() {
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
        record.event(&event).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"event","id":"1-0","event":"click","received_us":1"#),
            "{text}"
        );
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            Record::create(&directory.path().join("absent").join("got.ndjson")).unwrap_err();
        assert!(error.to_string().contains("got.ndjson"), "{error}");
    }
}
