//! Handles the outcome of each request: counts its events, prints the status, writes the record,
//! and logs failures.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use sse_cli::record_file::RecordError;
use sse_proto::Channel;

use super::{error::RunError, in_flight::FinishedRequest};
use crate::{
    payload::{Stamper, lane::Lane},
    publisher::{Failure, Outcome},
    report::{
        failure_log::FailureLog, record::Record, stats::RunStats, status_lines::StatusLines,
        stderr::StderrWriter,
    },
    settings::Settings,
};

/// The output of a run.
pub(crate) struct Results {
    pub(crate) stats: RunStats,
    pub(crate) status_lines: StatusLines,
    stderr: StderrWriter,
    failure_log: FailureLog,
    record: Option<Record>,
    error: Option<RunError>,
}

impl Results {
    /// `stamper` names the run in its record. `total` is the approximate number of events, if it is
    /// known.
    pub(crate) fn new(
        settings: &Settings,
        stamper: &Stamper,
        total: Option<u64>,
    ) -> Result<Self, RecordError> {
        let record = create_record(settings, stamper)?;
        let prints_status = settings.prints_status();
        Ok(Self {
            stats: RunStats::new(settings.curve()),
            status_lines: StatusLines::new(prints_status),
            stderr: StderrWriter::start(settings.progress, prints_status, total),
            failure_log: FailureLog::new(connect_hint(settings)),
            record,
            error: None,
        })
    }

    /// Handles a request that has finished.
    pub(crate) fn record_finished(&mut self, finished: &FinishedRequest) {
        let FinishedRequest {
            events,
            status,
            outcome,
            at,
        } = finished;
        if let Some(status) = *status {
            self.status_lines.push(status);
            self.stats.count_status(status);
        }
        for due in &events.dues {
            self.stats
                .count_outcome(outcome, at.saturating_duration_since(*due));
        }
        self.record_outcome(
            events.first..events.first + events.dues.len() as u64,
            events.lane,
            outcome,
        );
    }

    /// Handles the events of a request whose response the run does not wait for.
    pub(crate) fn record_abandoned(&mut self, sequences: Range<u64>, lane: Lane) {
        let outcome = Outcome::Unknown(Failure::Stopped);
        for _ in sequences.clone() {
            self.stats.count_outcome(&outcome, Duration::ZERO);
        }
        self.record_outcome(sequences, lane, &outcome);
    }

    /// Updates the progress on stderr. `waiting` counts the requests that wait for their responses.
    pub(crate) fn show_progress(&self, waiting: usize) {
        self.stderr.update_progress(self.stats.counts(), waiting);
    }

    /// Sets the error that ends the run. The first error wins.
    pub(crate) fn set_error(&mut self, error: RunError) {
        self.error.get_or_insert(error);
    }

    /// Returns whether an error must end the run.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Waits until all messages are written. Returns the counters, and the error that ended the
    /// run.
    pub(crate) fn finish(mut self) -> (RunStats, Option<RunError>) {
        self.stats.unreported += self.failure_log.suppressed();
        self.stats.unprinted = self.status_lines.dropped();
        self.stderr.finish();
        (self.stats, self.error)
    }

    fn record_outcome(&mut self, sequences: Range<u64>, lane: Lane, outcome: &Outcome) {
        let events = sequences.end - sequences.start;
        if let Some(record) = &mut self.record
            && let Err(error) = record.write(lane, events, outcome)
        {
            // A record with a hole would count false losses: write nothing after it.
            self.record = None;
            self.error.get_or_insert(error.into());
        }
        if let Outcome::Acknowledged(_) = outcome {
            self.failure_log.record_success();
            return;
        }
        if let Some(line) = self
            .failure_log
            .message_for(sequences, outcome, Instant::now())
            && !self.stderr.try_write_line(line)
        {
            self.stats.unreported += events;
        }
    }
}

fn create_record(settings: &Settings, stamper: &Stamper) -> Result<Option<Record>, RecordError> {
    let Some(path) = &settings.record else {
        return Ok(None);
    };
    let channel = settings
        .channel
        .clone()
        .unwrap_or_else(Channel::default_channel);
    Record::create(path, &channel, stamper.clone()).map(Some)
}

/// Returns the hint for a run whose first event finds no server.
fn connect_hint(settings: &Settings) -> String {
    let (url, curve) = (&settings.url, settings.curve());
    if let Some(socket) = &settings.unix_socket {
        return format!(
            "cannot connect to the unix socket {socket}: start the server with --bind \
             unix:{socket}, or set another path with --unix-socket; still trying, at {curve}",
            socket = socket.display()
        );
    }
    match url.proxy() {
        Some(proxy) => format!(
            "cannot connect to {url} through {proxy}: {}; still trying, at {curve}",
            proxy.remedy()
        ),
        None => format!(
            "cannot connect to {url}: start the server with `cargo run -p sse-server`, or set its \
             address with --url; still trying, at {curve}"
        ),
    }
}
