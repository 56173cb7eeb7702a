//! The file of `--record`: a line for every event that must arrive, and for every event that may.
//!
//! Each line is written to the file as it comes, so that a run that is killed leaves what it knew.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sse_proto::{
    Channel,
    record::{self, Sent},
};

use crate::outcome::Outcome;

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    path: PathBuf,
    channel: Channel,
    publisher: String,
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
    pub(crate) fn create(path: &Path, channel: Channel, publisher: String) -> Result<Self, RecordError> {
        let path = path.to_owned();
        match File::create(&path) {
            Ok(file) => Ok(Self { file, path, channel, publisher }),
            Err(source) => Err(RecordError::Create { path, source }),
        }
    }

    /// Writes the line of an event, if it has one.
    pub(crate) fn write(&mut self, sequence: u64, outcome: &Outcome) -> Result<(), RecordError> {
        let (outcome, id) = match outcome {
            Outcome::Acknowledged(id) => (record::Outcome::Acknowledged, Some(id.to_string())),
            Outcome::Unknown(_) => (record::Outcome::Unknown, None),
            Outcome::Refused(_) => return Ok(()),
        };
        let (channel, publisher) = (self.channel.to_string(), self.publisher.clone());
        let mut line = serde_json::to_vec(&Sent { outcome, id, channel, publisher, sequence })
            .expect("strings and numbers are always JSON");
        line.push(b'\n');
        // One write a line: a reader that follows the file sees whole lines.
        self.file.write_all(&line).map_err(|source| RecordError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::outcome::Failure;

    #[test]
    fn acknowledged_and_unknown_events_have_a_line_and_refused_ones_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sent");
        std::fs::write(&path, "of an earlier run\n").unwrap();
        let mut record = Record::create(&path, Channel::default_channel(), "p".to_owned()).unwrap();
        record.write(0, &Outcome::Acknowledged(EventId::new(5, 1))).unwrap();
        record.write(1, &Outcome::Refused(Failure::Stopped)).unwrap();
        record.write(2, &Outcome::Unknown(Failure::Stopped)).unwrap();
        // Still open: nothing waits in memory.
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"outcome":"acknowledged","id":"5-1","channel":"sse","publisher":"p","sequence":0}"#,
                "\n",
                r#"{"outcome":"unknown","channel":"sse","publisher":"p","sequence":2}"#,
                "\n",
            )
        );
    }
}
