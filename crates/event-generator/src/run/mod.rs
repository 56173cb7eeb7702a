//! A run: sends what is due, handles the responses, and stops at the end of the schedule or on
//! request.
//!
//! One task does everything, so nothing is shared between threads. Neither a missing response nor a
//! slow stdout delays an event, until `--concurrency` requests wait for their responses. The task
//! also writes the file of `--record`, with blocking writes: a slow disk delays events.
//!
//! | module | contents |
//! |---|---|
//! | [`sender`] | turns the next event into a request, or adds it to a batch |
//! | [`in_flight`] | the requests that wait for their responses |
//! | [`lanes`] | which requests wait for each other, so that numbers prove an order (pure) |
//! | [`results`] | counts, prints, records and logs each outcome |
//! | [`connect_backoff`] | the pause of a closed loop after connections that failed (pure) |
//! | [`timer`] | wakes the task at an instant, to the microsecond |

mod connect_backoff;
mod error;
mod in_flight;
mod lanes;
mod results;
mod sender;
mod timer;

use std::{process::ExitCode, time::Duration};

use sse_cli::signals::Signals;
use tokio::time::{Instant, sleep_until};

use self::{
    connect_backoff::ConnectBackoff,
    error::{RunError, StartError},
    in_flight::FinishedRequest,
    results::Results,
    sender::Sender,
    timer::Timer,
};
use crate::{
    payload::{Payload, ReplayError, Stamper},
    report::{
        json::{ReportError, ReportFile},
        stats::RunStats,
    },
    schedule::{Curve, NextStep, Schedule},
    settings::Settings,
};

/// How long an interrupted run waits for its last responses, and then for the reader of its output.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// Events that are due within this time are sent together: at high rates, waking up would cost more
/// than sending.
const COALESCE_TIME: Duration = Duration::from_micros(100);
/// Events that are sent, and responses that are handled, before everything else gets its turn.
const STEPS_PER_TURN_MAX: usize = 1024;

/// The state of a run.
pub(crate) struct Run {
    schedule: Schedule,
    sender: Sender,
    /// `None` with a schedule, which does not wait for a server.
    connect_backoff: Option<ConnectBackoff>,
    timer: Timer,
    results: Results,
    report_file: Option<ReportFile>,
}

/// How a run ended.
pub(crate) struct RunResult {
    /// Counters and latencies.
    pub(crate) stats: RunStats,
    /// Exit code if there is no error.
    pub(crate) code: ExitCode,
    /// Error that ended the run early.
    pub(crate) error: Option<RunError>,
    /// Error of the report file.
    pub(crate) report_error: Option<ReportError>,
}

/// Why no more events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    /// The schedule or the recording is at its end.
    Complete,
    /// A signal, a closed stdout, or an error.
    Interrupted,
}

impl Run {
    /// Sets everything up and sends nothing yet.
    ///
    /// The process must have a default crypto provider of rustls.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StartError> {
        let stamper = Stamper::new();
        let sender = Sender::new(settings, stamper.clone())?;
        let report_file = create_report_file(settings)?;
        let schedule = settings.build_schedule();
        Ok(Self {
            results: Results::new(settings, &stamper, schedule.total())?,
            sender,
            schedule,
            connect_backoff: (settings.curve() == Curve::ClosedLoop).then(ConnectBackoff::default),
            timer: Timer::new().map_err(StartError::Timer)?,
            report_file,
        })
    }

    /// Runs until the schedule is at its end, or until a signal, a closed stdout or an error.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> RunResult {
        let start = Instant::now();
        let reason = self.send_by_schedule(start, signals).await;
        self.sender.send_incomplete_batch();
        let deadline = self.finish_requests(reason, signals).await;
        self.finish_output(deadline, signals).await;
        self.sender.count_totals(&mut self.results.stats);
        let (stats, error) = self.results.finish();
        let complete = reason == StopReason::Complete && error.is_none();
        let write = |file: ReportFile| file.write(&stats, complete, start.elapsed());
        let report_error = self.report_file.map(write).and_then(Result::err);
        RunResult {
            code: exit_code(reason, &stats),
            stats,
            error,
            report_error,
        }
    }

    /// Sends events by the schedule.
    async fn send_by_schedule(&mut self, start: Instant, signals: &mut Signals) -> StopReason {
        let last = self
            .schedule
            .end_time()
            .and_then(|end| start.checked_add(end));
        while !self.results.has_failed() {
            let next = self.send_due(start);
            self.handle_finished_so_far();
            let at = match next {
                NextStep::End(at) if at <= start.elapsed() => return StopReason::Complete,
                NextStep::GiveUp { unsent } => {
                    self.results.stats.unsent = unsent;
                    return StopReason::Complete;
                }
                NextStep::End(at) | NextStep::Send(at) => at,
            };
            self.results.show_progress(self.sender.in_flight.len());
            let wake = wake_time(start, at);
            let is_full = self.sender.in_flight.is_full();
            tokio::select! {
                biased;
                () = signals.next() => return StopReason::Interrupted,
                () = self.results.status_lines.closed() => return StopReason::Interrupted,
                Some(finished) = self.sender.in_flight.next_finished() => {
                    self.handle_finished(&finished);
                }
                ready = wait_for_event(&mut self.sender.payload, &self.timer, wake, next, last),
                    if !is_full => match ready
                {
                    Ok(true) => {}
                    Ok(false) => return StopReason::Complete,
                    Err(error) => self.results.set_error(error.into()),
                },
            }
        }
        StopReason::Interrupted
    }

    /// Sends events while they are due, the payload has one, and requests may start. Returns the
    /// next step after that.
    fn send_due(&mut self, start: Instant) -> NextStep {
        for _ in 0..STEPS_PER_TURN_MAX {
            let elapsed = start.elapsed();
            let next = self.next_step(start, elapsed);
            match next {
                NextStep::Send(at) if at <= elapsed && self.sender.is_ready() => {
                    self.send_event(start + at);
                }
                _ => return next,
            }
        }
        self.next_step(start, start.elapsed())
    }

    /// Returns the next step of the schedule, delayed by the pause if there is one. A pause does
    /// not outlast the run.
    fn next_step(&self, start: Instant, elapsed: Duration) -> NextStep {
        match (self.schedule.next_step(elapsed), self.pause_end(start)) {
            (NextStep::Send(at), Some(pause_end)) => NextStep::Send(at.max(pause_end)),
            (next, _) => next,
        }
    }

    fn pause_end(&self, start: Instant) -> Option<Duration> {
        let until = self.connect_backoff.as_ref()?.paused_until()?;
        let end = self.schedule.end_time().unwrap_or(Duration::MAX);
        Some(until.saturating_duration_since(start).min(end))
    }

    /// Sends the next event, which was due at `due` by the schedule.
    fn send_event(&mut self, due: Instant) {
        let sequence = self.results.stats.counts().sent;
        if let Some(sent) = self.sender.send_event(sequence, due) {
            self.results.stats.count_sent(sent.into_std());
            self.schedule.advance();
        }
    }

    /// Handles the requests that have finished already.
    fn handle_finished_so_far(&mut self) {
        for _ in 0..STEPS_PER_TURN_MAX {
            let Some(finished) = self.sender.in_flight.poll_finished() else {
                return;
            };
            self.handle_finished(&finished);
        }
    }

    fn handle_finished(&mut self, finished: &FinishedRequest) {
        self.sender.release_lane(finished);
        if let Some(backoff) = &mut self.connect_backoff {
            backoff.observe(&finished.outcome, Instant::now());
        }
        self.results.record_finished(finished);
    }

    /// Waits for the last responses: not for long if the run was interrupted. Returns the deadline
    /// that a signal has set.
    async fn finish_requests(
        &mut self,
        reason: StopReason,
        signals: &mut Signals,
    ) -> Option<Instant> {
        let mut deadline = (reason == StopReason::Interrupted).then(stop_deadline);
        while !self.sender.in_flight.is_empty() {
            self.results.show_progress(self.sender.in_flight.len());
            tokio::select! {
                biased;
                // The first signal after a complete run sets the deadline; a signal after that, or
                // after an interruption, ends the wait now.
                () = signals.next() => {
                    deadline = Some(deadline.map_or_else(stop_deadline, |_| Instant::now()));
                }
                Some(finished) = self.sender.in_flight.next_finished() => {
                    self.handle_finished(&finished);
                }
                () = sleep_until_deadline(deadline) => break,
            }
        }
        self.abandon_requests();
        deadline.map(|_| stop_deadline())
    }

    fn abandon_requests(&mut self) {
        for (sequences, lane) in self.sender.in_flight.abandon_all() {
            self.results.record_abandoned(sequences, lane);
        }
    }

    /// Waits until the last status lines are printed, a signal arrives, or the deadline is over.
    async fn finish_output(&mut self, deadline: Option<Instant>, signals: &mut Signals) {
        let finished = tokio::select! {
            biased;
            finished = self.results.status_lines.finish() => finished,
            () = signals.next() => Ok(()),
            () = sleep_until_deadline(deadline) => Ok(()),
        };
        if let Err(error) = finished {
            self.results.set_error(RunError::Stdout(error));
        }
    }
}

fn create_report_file(settings: &Settings) -> Result<Option<ReportFile>, ReportError> {
    settings
        .report
        .as_ref()
        .map(|path| ReportFile::create(path, settings.describe_run()))
        .transpose()
}

/// Returns 1 if a complete run has stored no event. An interrupted run is no failure, whatever it
/// achieved.
fn exit_code(reason: StopReason, stats: &RunStats) -> ExitCode {
    let has_failed = reason == StopReason::Complete && stats.acknowledged_nothing();
    ExitCode::from(u8::from(has_failed))
}

fn stop_deadline() -> Instant {
    Instant::now() + STOP_WAIT
}

/// Returns when to wake up for an event that is due `at` after `start`.
///
/// A late event is sent at once, and no event is sent before it is due.
fn wake_time(start: Instant, at: Duration) -> Instant {
    let elapsed = start.elapsed();
    if at <= elapsed {
        Instant::now()
    } else {
        start + at.max(elapsed + COALESCE_TIME)
    }
}

/// Waits until the next event is due and the payload has one. Returns `false` if the payload has no
/// more events, or none before `last`.
///
/// If the schedule only waits for its end, the payload needs no event.
async fn wait_for_event(
    payload: &mut Payload,
    timer: &Timer,
    wake: Instant,
    next: NextStep,
    last: Option<Instant>,
) -> Result<bool, ReplayError> {
    timer.wait(wake).await;
    if let NextStep::End(_) = next {
        return Ok(true);
    }
    tokio::select! {
        biased;
        ready = payload.ready() => ready,
        () = sleep_until_deadline(last) => Ok(false),
    }
}

async fn sleep_until_deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
