//! The run: sends what is due, takes what was answered, and stops when told.
//!
//! One task does it all, so nothing is shared. No wait for an answer, for stdout or for the record stands between an
//! event and its time, until the requests in flight are as many as may be.

use std::{process::ExitCode, rc::Rc, time::Duration};

use chrono::Local;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::{
    in_flight::InFlight,
    pace::{Next, Pace},
    payload::{Acts, Payload},
    publisher::{Publisher, PublisherError, REQUEST_TIMEOUT},
    record::RecordError,
    report::Report,
    results::{OutputError, Results},
    settings::Settings,
    signals::Signals,
};

/// How long a run that was stopped waits for its last answers, and then for whoever reads its output.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// The longest sleep at a time; a timer cannot hold any duration.
const SLEEP_MAX: Duration = Duration::from_hours(24);

/// Everything that a run needs and keeps.
pub(crate) struct Run {
    pace: Pace,
    acts: Acts,
    payload: Payload,
    publisher: Rc<Publisher>,
    in_flight: InFlight,
    results: Results,
}

/// How a run ended.
pub(crate) struct Ended {
    /// What it did.
    pub(crate) report: Report,
    /// The exit code, unless there is an error.
    pub(crate) code: ExitCode,
    /// What made it stop early.
    pub(crate) error: Option<OutputError>,
}

/// A run that cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why no more events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The schedule is over.
    Done,
    /// A signal, a closed stdout, or an error.
    Stopped,
}

impl Run {
    /// Sets everything up and sends nothing yet. The process must have a default crypto provider of rustls.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StartError> {
        let publisher = Publisher::new(&settings.url, &settings.actions, settings.channel.as_ref(), REQUEST_TIMEOUT)?;
        // Random whatever the seed: two runs must never be taken for one.
        let run_id = settings.record.is_some().then(|| Uuid::new_v4().to_string());
        Ok(Self {
            pace: settings.pace(),
            acts: Acts::new(settings.actions.clone(), settings.seed),
            results: Results::new(settings, run_id.as_deref())?,
            payload: run_id.map_or(Payload::Tutorial, |publisher| Payload::Stamped { publisher }),
            publisher: Rc::new(publisher),
            in_flight: InFlight::default(),
        })
    }

    /// Runs to the end of the schedule, or until it is told to stop.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> Ended {
        let end = self.send(signals).await;
        self.settle(end, signals).await;
        let (report, error) = self.results.finish();
        // Whoever stops a run does not ask whether it has succeeded.
        let failed = end == End::Done && report.is_in_vain();
        Ended { report, code: ExitCode::from(u8::from(failed)), error }
    }

    /// Sends by the schedule.
    async fn send(&mut self, signals: &mut Signals) -> End {
        let start = Instant::now();
        while !self.results.has_failed() {
            let elapsed = start.elapsed();
            let next = self.pace.next(self.results.report.sent(), elapsed);
            let at = match next {
                Next::End(at) if at <= elapsed => return End::Done,
                Next::GiveUp { unsent } => {
                    self.results.report.unsent = unsent;
                    return End::Done;
                }
                Next::End(at) | Next::Send(at) => at,
            };
            let wake = Instant::now() + at.saturating_sub(elapsed).min(SLEEP_MAX);
            tokio::select! {
                biased;
                () = signals.next() => return End::Stopped,
                () = self.results.status_lines.closed() => return End::Stopped,
                Some(answered) = self.in_flight.next() => self.results.take(&answered),
                () = reach(wake), if !self.in_flight.is_full() => {
                    if matches!(next, Next::Send(_)) && at <= start.elapsed() {
                        self.post(start + at);
                    }
                }
            }
        }
        End::Stopped
    }

    /// Waits for the last answers and prints the last lines: not long if the run was stopped.
    async fn settle(&mut self, end: End, signals: &mut Signals) {
        let soon = || Instant::now() + STOP_WAIT;
        let mut deadline = (end == End::Stopped).then(soon);
        while !self.in_flight.is_empty() {
            tokio::select! {
                biased;
                // The first signal of a run that is done means soon; the second of any means now.
                () = signals.next() => deadline = Some(deadline.map_or_else(soon, |_| Instant::now())),
                Some(answered) = self.in_flight.next() => self.results.take(&answered),
                () = until(deadline) => break,
            }
        }
        for sequence in self.in_flight.abandon() {
            self.results.take_abandoned(sequence);
        }
        let deadline = deadline.map(|_| soon());
        let finished = tokio::select! {
            biased;
            finished = self.results.status_lines.finish() => finished,
            () = signals.next() => Ok(()),
            () = until(deadline) => Ok(()),
        };
        if let Err(error) = finished {
            self.results.fail(error);
        }
    }

    /// Starts the request of the next event, which was due at `due`.
    fn post(&mut self, due: Instant) {
        let Some(act) = self.acts.next() else { return };
        let sequence = self.results.report.count_sent(Instant::now().into_std());
        let body = self.payload.body(act.user_id, sequence, Local::now());
        let publisher = Rc::clone(&self.publisher);
        self.in_flight.push(sequence, due, async move { publisher.publish(act.action, body).await });
    }
}

/// Waits for an instant; one that has passed only gives the connections a turn, where a timer would take a millisecond.
async fn reach(instant: Instant) {
    if instant > Instant::now() {
        sleep_until(instant).await;
    } else {
        yield_now().await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
