//! The record file: what was received, gaps included, a line each ([`sse_proto::record::Received`]).
//!
//! A line is one write, so that a listener that is killed leaves whole lines of all that it got.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use sse_proto::{
    api::Gap,
    record::{Received, Stamp},
};

use crate::decode::decoder::Event;

/// The open record file.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
}

/// The record cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// At the start.
    #[error("cannot create the record file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Later: the disk is full, for example.
    #[error("cannot write to the record file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Record {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// [`RecordError::Create`].
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let path = path.to_owned();
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(RecordError::Create { path, source }),
        }
    }

    /// Adds an event, received now.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn event(&mut self, event: &Event) -> Result<(), RecordError> {
        self.line(&received(event, now_us()))
    }

    /// Adds a gap, which was told by `event`.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn gap(&mut self, event: &Event, gap: &Gap) -> Result<(), RecordError> {
        self.line(&Received::Gap {
            id: event.id.clone(),
            gap: gap.clone(),
        })
    }

    fn line(&mut self, received: &Received) -> Result<(), RecordError> {
        let line =
            serde_json::to_string(received).expect("strings and numbers are always JSON") + "\n";
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| RecordError::Write {
                path: self.path.clone(),
                source,
            })
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
