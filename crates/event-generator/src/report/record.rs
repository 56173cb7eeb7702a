//! The file of `--record`: a line for every event that must arrive, and for every event that may.
//!
//! The lines of an answer are written to the file as it comes, so that a run that is killed leaves what it knew. An
//! event of a batch has its id where the server's answer leaves no other ([`Ids::id`]); loss is counted by publisher and
//! sequence all the same.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sse_proto::{
    Channel,
    record::{self, Sent},
};

use crate::{
    payload::Stamper,
    payload::lane::Lane,
    publisher::outcome::{Ids, Outcome},
};

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    path: PathBuf,
    stamper: Stamper,
    /// What the next line will be.
    line: Sent,
    lines: Vec<u8>,
}

/// The record cannot be kept, so nobody may rely on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("cannot create the record file {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write to the record file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Record {
    /// Creates the file, or empties it.
    pub(crate) fn create(
        path: &Path,
        channel: &Channel,
        stamper: Stamper,
    ) -> Result<Self, RecordError> {
        let path = path.to_owned();
        let outcome = record::Outcome::Unknown;
        let line = Sent {
            outcome,
            id: None,
            channel: channel.to_string(),
            publisher: String::new(),
            sequence: 0,
        };
        match File::create(&path) {
            Ok(file) => Ok(Self {
                file,
                path,
                stamper,
                line,
                lines: Vec::new(),
            }),
            Err(source) => Err(RecordError::Create { path, source }),
        }
    }

    /// Writes the lines of so many events of a request, if they have any. `lane` has the number of the first.
    pub(crate) fn write(
        &mut self,
        lane: Lane,
        events: u64,
        outcome: &Outcome,
    ) -> Result<(), RecordError> {
        let ids = match outcome {
            Outcome::Acknowledged(ids) => *ids,
            Outcome::Unknown(_) => Ids::NotReported,
            Outcome::NotStored(_) => return Ok(()),
        };
        self.line.outcome = match outcome {
            Outcome::Acknowledged(_) => record::Outcome::Acknowledged,
            _ => record::Outcome::Unknown,
        };
        self.lines.clear();
        self.line.publisher = self.stamper.publisher(lane.number);
        for place in 0..events {
            self.line.sequence = lane.next + place;
            self.line.id = ids.id_at(place).map(|id| id.to_string());
            serde_json::to_writer(&mut self.lines, &self.line)
                .expect("strings and numbers are always JSON");
            self.lines.push(b'\n');
        }
        // One write an answer: a reader that follows the file sees whole lines.
        self.file
            .write_all(&self.lines)
            .map_err(|source| RecordError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::publisher::outcome::Failure;

    #[test]
    fn acknowledged_and_unknown_events_have_a_line_and_refused_ones_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sent");
        std::fs::write(&path, "of an earlier run\n").unwrap();
        let stamper = Stamper::new();
        let publisher = stamper.publisher(2);
        let mut record = Record::create(&path, &Channel::default_channel(), stamper).unwrap();
        let lane = |next| Lane { number: 2, next };
        record
            .write(
                lane(0),
                1,
                &Outcome::Acknowledged(Ids::Event(EventId::new(5, 1))),
            )
            .unwrap();
        record
            .write(lane(1), 1, &Outcome::NotStored(Failure::Stopped))
            .unwrap();
        record
            .write(lane(2), 1, &Outcome::Unknown(Failure::Stopped))
            .unwrap();
        let batch = Ids::Batch {
            first: EventId::new(6, 0),
            last: EventId::new(7, 0),
            count: 3,
        };
        record
            .write(lane(3), 3, &Outcome::Acknowledged(batch))
            .unwrap();
        // Still open: nothing waits in memory.
        assert_eq!(
            std::fs::read_to_string(&path)
                .unwrap()
                .replace(&publisher, "p"),
            concat!(
                r#"{"outcome":"acknowledged","id":"5-1","channel":"sse","publisher":"p","sequence":0}"#,
                "\n",
                r#"{"outcome":"unknown","channel":"sse","publisher":"p","sequence":2}"#,
                "\n",
                r#"{"outcome":"acknowledged","id":"6-0","channel":"sse","publisher":"p","sequence":3}"#,
                "\n",
                r#"{"outcome":"acknowledged","channel":"sse","publisher":"p","sequence":4}"#,
                "\n",
                r#"{"outcome":"acknowledged","id":"7-0","channel":"sse","publisher":"p","sequence":5}"#,
                "\n",
            )
        );
    }
}
