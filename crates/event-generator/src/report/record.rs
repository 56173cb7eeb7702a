//! The file of `--record`: one line for every event that must arrive, and for every event that may
//! arrive.
//!
//! The lines of a response are written as soon as it arrives, so that a run that is killed leaves what
//! it knew. An event of a batch has its id if that id is certain ([`Ids::id_at`]). Loss is counted
//! by ids, and with `--stamp` also by publisher and sequence.

use std::path::Path;

use sse_cli::record_file::{RecordError, RecordFile};
use sse_proto::{
    Channel,
    record::{self, Sent},
};

use crate::{
    payload::{Stamper, lane::Lane},
    publisher::{Ids, Outcome},
};

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Record {
    file: RecordFile,
    stamper: Stamper,
    /// The next line. Its channel is the same for all lines.
    line: Sent,
}

impl Record {
    /// Creates the file, or empties it.
    pub(crate) fn create(
        path: &Path,
        channel: &Channel,
        stamper: Stamper,
    ) -> Result<Self, RecordError> {
        Ok(Self {
            file: RecordFile::create(path)?,
            stamper,
            line: empty_line(channel),
        })
    }

    /// Writes the lines of the events of a request, unless they were not stored. `lane` has the
    /// number of the first event.
    pub(crate) fn write(
        &mut self,
        lane: Lane,
        events: u64,
        outcome: &Outcome,
    ) -> Result<(), RecordError> {
        let Some((outcome, ids)) = recorded_outcome(outcome) else {
            return Ok(());
        };
        self.line.outcome = outcome;
        self.line.publisher = self.stamper.publisher(lane.number);
        for index in 0..events {
            self.line.sequence = lane.next + index;
            self.line.id = ids.id_at(index).map(|id| id.to_string());
            self.file.push_line(&self.line);
        }
        self.file.write_lines()
    }
}

fn empty_line(channel: &Channel) -> Sent {
    Sent {
        outcome: record::Outcome::Unknown,
        id: None,
        channel: channel.to_string(),
        publisher: String::new(),
        sequence: 0,
    }
}

/// Returns the outcome and the ids for the record; `None` if the events were not stored.
fn recorded_outcome(outcome: &Outcome) -> Option<(record::Outcome, Ids)> {
    match outcome {
        Outcome::Acknowledged(ids) => Some((record::Outcome::Acknowledged, *ids)),
        Outcome::Unknown(_) => Some((record::Outcome::Unknown, Ids::NotReported)),
        Outcome::NotStored(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::publisher::Failure;

    #[test]
    fn acknowledged_and_unknown_events_have_a_line_and_rejected_ones_have_none() {
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
        // The file is still open: all lines must be in it.
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
