//! The file of `--report`: the figures of a run for programs. It contains no header and no token,
//! and so no secret.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::stats::RunStats;

/// Settings of the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunSetup {
    /// URL without user name and password.
    pub(crate) url: String,
    pub(crate) payload: String,
    /// Events per second; `None` for a ramp and for a closed loop.
    pub(crate) rate_asked: Option<f64>,
    /// Ramp as on the command line.
    pub(crate) ramp: Option<String>,
    pub(crate) closed_loop: bool,
    pub(crate) arrivals: String,
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    pub(crate) seed: Option<u64>,
}

/// The report file. It is created before the run, so that a wrong path is reported at once.
#[derive(Debug)]
pub(crate) struct ReportFile {
    file: File,
    path: PathBuf,
    setup: RunSetup,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("cannot create the report file {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write to the report file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

#[derive(Serialize)]
struct ReportJson<'a> {
    #[serde(flatten)]
    setup: &'a RunSetup,
    /// Whether the run reached the end of its schedule.
    complete: bool,
    /// Length of the run, including the wait for the last responses.
    duration_s: f64,
    /// Time from the first event to the last.
    sending_s: Option<f64>,
    rate_achieved: Option<f64>,
    sent: u64,
    acknowledged: u64,
    failed: u64,
    unknown: u64,
    unsent: u64,
    skipped: u64,
    sent_again: u64,
    statuses: &'a BTreeMap<u16, u64>,
    latency_us: Option<Latency>,
}

#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
}

impl Latency {
    /// Returns the latencies of a run; `None` if no event was acknowledged.
    fn of_acknowledged(stats: &RunStats) -> Option<Self> {
        (!stats.latency_us.is_empty()).then(|| Self {
            mean: stats.latency_us.mean(),
            p50: stats.latency_us_at(0.5),
            p90: stats.latency_us_at(0.9),
            p99: stats.latency_us_at(0.99),
            p99_9: stats.latency_us_at(0.999),
            max: stats.latency_us_at(1.0),
        })
    }
}

impl ReportFile {
    /// Creates the file, or empties it.
    pub(crate) fn create(path: &Path, setup: RunSetup) -> Result<Self, ReportError> {
        let path = path.to_owned();
        match File::create(&path) {
            Ok(file) => Ok(Self { file, path, setup }),
            Err(source) => Err(ReportError::Create { path, source }),
        }
    }

    /// Writes the report.
    pub(crate) fn write(
        mut self,
        stats: &RunStats,
        complete: bool,
        duration: Duration,
    ) -> Result<(), ReportError> {
        let mut text = render_json(&self.setup, stats, complete, duration);
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|source| ReportError::Write {
                path: self.path,
                source,
            })
    }
}

fn render_json(setup: &RunSetup, stats: &RunStats, complete: bool, duration: Duration) -> String {
    let counts = stats.counts;
    let json = ReportJson {
        setup,
        complete,
        duration_s: duration.as_secs_f64(),
        sending_s: stats.sending_time().map(|span| span.as_secs_f64()),
        rate_achieved: stats.achieved_rate(),
        sent: counts.sent,
        acknowledged: counts.acknowledged,
        failed: counts.failed,
        unknown: counts.unknown,
        unsent: stats.unsent,
        skipped: stats.skipped,
        sent_again: stats.sent_again,
        statuses: &stats.statuses,
        latency_us: Latency::of_acknowledged(stats),
    };
    serde_json::to_string_pretty(&json).expect("strings and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hyper::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{
        publisher::{Ids, Outcome},
        schedule::parse_rate,
    };

    #[test]
    fn the_json_contains_every_figure() {
        let mut stats = RunStats::new(parse_rate("10").unwrap());
        let start = Instant::now();
        for nth in 0..11 {
            stats.count_sent(start + nth * Duration::from_millis(100));
            stats.count_outcome(
                &Outcome::Acknowledged(Ids::NotReported),
                Duration::from_micros(100),
            );
        }
        stats.count_status(StatusCode::OK);
        stats.count_status(StatusCode::OK);
        let setup = RunSetup {
            url: "http://h".to_owned(),
            payload: "sequenced".to_owned(),
            rate_asked: Some(10.0),
            ramp: None,
            closed_loop: false,
            arrivals: "constant".to_owned(),
            concurrency: 256,
            batch: 1,
            seed: None,
        };
        let text = render_json(&setup, &stats, true, Duration::from_millis(1500));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            json!({
                "url": "http://h", "payload": "sequenced", "rate_asked": 10.0, "ramp": null, "closed_loop": false,
                "arrivals": "constant", "concurrency": 256, "batch": 1, "seed": null,
                "complete": true, "duration_s": 1.5, "sending_s": 1.0, "rate_achieved": 10.0,
                "sent": 11, "acknowledged": 11, "failed": 0, "unknown": 0, "unsent": 0, "skipped": 0,
                "sent_again": 0,
                "statuses": {"200": 2},
                "latency_us": {"mean": 100.0, "p50": 100, "p90": 100, "p99": 100, "p99.9": 100, "max": 100},
            })
        );
    }
}
