//! What is done with the outcome of an event: it is counted, printed, recorded, and complained about.

use std::{
    io,
    time::{Duration, Instant},
};

use sse_proto::Channel;

use crate::{
    complaints::Complaints,
    in_flight::Answered,
    outcome::{Failure, Outcome},
    record::{Record, RecordError},
    report::{Report, say},
    settings::Settings,
    status_lines::StatusLines,
};

/// The output of a run.
pub(crate) struct Results {
    pub(crate) report: Report,
    pub(crate) status_lines: StatusLines,
    complaints: Complaints,
    record: Option<Record>,
    error: Option<OutputError>,
}

/// What stops a run: it cannot keep a promise about its output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
}

impl Results {
    /// `publisher` names the run in its record, if it has one.
    pub(crate) fn new(settings: &Settings, publisher: Option<&str>) -> Result<Self, RecordError> {
        let record = match (&settings.record, publisher) {
            (Some(path), Some(publisher)) => {
                let channel = settings.channel.clone().unwrap_or_else(Channel::default_channel);
                Some(Record::create(path, channel, publisher.to_owned())?)
            }
            _ => None,
        };
        Ok(Self {
            report: Report::new(settings.rate),
            status_lines: StatusLines::new(settings.prints_status()),
            complaints: Complaints::new(advice(settings)),
            record,
            error: None,
        })
    }

    /// Takes what became of an event.
    pub(crate) fn take(&mut self, answered: &Answered) {
        let Answered { sequence, outcome, latency } = answered;
        if let Some(status) = outcome.status() {
            self.status_lines.push(status);
        }
        self.conclude(*sequence, outcome, *latency);
    }

    /// Takes an event whose answer nobody waits for any more.
    pub(crate) fn take_abandoned(&mut self, sequence: u64) {
        self.conclude(sequence, &Outcome::Unknown(Failure::Stopped), Duration::ZERO);
    }

    /// Remembers why stdout failed.
    pub(crate) fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(OutputError::Stdout(error));
    }

    /// Whether the run must stop.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// The figures, and what made the run stop if something did.
    pub(crate) fn finish(mut self) -> (Report, Option<OutputError>) {
        self.report.untold = self.complaints.untold();
        self.report.unprinted = self.status_lines.left_out();
        (self.report, self.error)
    }

    fn conclude(&mut self, sequence: u64, outcome: &Outcome, latency: Duration) {
        self.report.count_outcome(outcome, latency);
        if let Some(record) = &mut self.record
            && let Err(error) = record.write(sequence, outcome)
        {
            // A record with a hole would count false losses: nothing is added behind it.
            self.record = None;
            self.error.get_or_insert(error.into());
        }
        if let Some(line) = self.complaints.about(sequence, outcome, Instant::now()) {
            say(line);
        }
    }
}

/// What to do if the first event finds no server.
fn advice(settings: &Settings) -> String {
    let Settings { url, rate, .. } = settings;
    format!(
        "cannot connect to {url}: start the server with `cargo run -p sse-server`, or give its address by --url; \
         still trying, at {rate}/s"
    )
}
