//! The run: sends what is due, takes what was answered, and stops when told.
//!
//! One task does it all, so nothing is shared. No wait for an answer, for stdout or for the record stands between an
//! event and its time, until the requests in flight are as many as may be.

mod connect_backoff;
mod in_flight;
pub(crate) mod lanes;
mod results;
mod timer;

use std::{
    io,
    process::ExitCode,
    rc::Rc,
    time::{Duration, SystemTime},
};

use sse_cli::{record_file::RecordError, signals::Signals};
use tokio::time::{Instant, sleep_until};

use crate::{
    payload::{EventSlot, Payload, ReplayError},
    publisher::outcome::{ExpectedReply, Failure, Outcome},
    publisher::retry::Retry,
    publisher::{Publisher, PublisherError, REQUEST_TIMEOUT},
    report::{
        json::{ReportError, ReportFile},
        stats::RunStats,
    },
    request::{BatchBuilder, CompleteBatch, OutgoingRequest, RequestBuilder},
    run::connect_backoff::ConnectBackoff,
    run::in_flight::{FinishedRequest, InFlight, RequestEvents},
    run::lanes::Lanes,
    run::results::{Results, RunError},
    run::timer::Timer,
    schedule::{Curve, NextStep, Schedule},
    settings::Settings,
};

/// How long a run that was stopped waits for its last answers, and then for whoever reads its output.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// Events that are due within this are sent together: at high rates the waking up would cost more than the sending.
const COALESCE_TIME: Duration = Duration::from_micros(100);
/// Events that are sent, and answers that are taken, before everything else gets its turn.
const STEPS_PER_TURN_MAX: usize = 1024;

/// Everything that a run needs and keeps.
pub(crate) struct Run {
    schedule: Schedule,
    payload: Payload,
    requests: RequestBuilder,
    /// Where events gather, if they go in batches.
    batch: Option<BatchBuilder>,
    publisher: Rc<Publisher>,
    retry: Option<Rc<Retry>>,
    in_flight: InFlight,
    lanes: Lanes,
    /// Only without a schedule: one that is kept does not wait for a server.
    connect_backoff: Option<ConnectBackoff>,
    timer: Timer,
    results: Results,
    report_file: Option<ReportFile>,
    /// The data of the event that is being sent: its memory serves all of them.
    data: String,
}

/// How a run ended.
pub(crate) struct RunResult {
    /// What it did.
    pub(crate) stats: RunStats,
    /// The exit code, unless there is an error.
    pub(crate) code: ExitCode,
    /// What made it stop early.
    pub(crate) error: Option<RunError>,
    /// Why its report could not be written.
    pub(crate) report_error: Option<ReportError>,
}

/// A run that cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("cannot have a timer of the system")]
    Timer(#[source] io::Error),
}

/// Why no more events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    /// The schedule is over, or the recording is.
    Complete,
    /// A signal, a closed stdout, or an error.
    Interrupted,
}

impl Run {
    /// Sets everything up and sends nothing yet. The process must have a default crypto provider of rustls.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StartError> {
        let publisher = Publisher::new(&settings.url, REQUEST_TIMEOUT)?;
        let stamper = settings.build_stamper();
        let report_file = settings
            .report
            .as_ref()
            .map(|path| ReportFile::create(path, settings.describe_run()))
            .transpose()?;
        let schedule = settings.build_schedule();
        Ok(Self {
            results: Results::new(settings, stamper.as_ref(), schedule.total())?,
            payload: settings.build_payload(stamper)?,
            schedule,
            requests: settings.build_request_builder(),
            batch: settings.batch_size().map(BatchBuilder::new),
            publisher: Rc::new(publisher),
            retry: settings.retry.map(|times| Rc::new(Retry::new(times))),
            in_flight: InFlight::new(settings.concurrency),
            lanes: Lanes::default(),
            connect_backoff: (settings.curve() == Curve::ClosedLoop).then(ConnectBackoff::default),
            timer: Timer::new().map_err(StartError::Timer)?,
            report_file,
            data: String::new(),
        })
    }

    /// Runs to the end of the schedule, or until it is told to stop.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> RunResult {
        let start = Instant::now();
        let end = self.send_by_schedule(start, signals).await;
        // What has gathered is sent however the run ends.
        if let Some(rest) = self.batch.as_mut().and_then(BatchBuilder::finish) {
            self.start_batch(rest);
        }
        self.finish_requests(end, signals).await;
        if let Payload::Replay(replay) = &self.payload {
            self.results.stats.skipped = replay.skipped();
        }
        if let Some(retry) = &self.retry {
            self.results.stats.sent_again = retry.sent_again();
        }
        let (stats, error) = self.results.finish();
        let complete = end == StopReason::Complete && error.is_none();
        let write = |file: ReportFile| file.write(&stats, complete, start.elapsed());
        let report_error = self.report_file.map(write).and_then(Result::err);
        // Whoever stops a run does not ask whether it has succeeded.
        let failed = end == StopReason::Complete && stats.acknowledged_nothing();
        RunResult {
            stats,
            code: ExitCode::from(u8::from(failed)),
            error,
            report_error,
        }
    }

    /// Sends by the schedule.
    async fn send_by_schedule(&mut self, start: Instant, signals: &mut Signals) -> StopReason {
        let last = self
            .schedule
            .end_time()
            .and_then(|end| start.checked_add(end));
        while !self.results.has_failed() {
            let next = self.send_due(start);
            self.handle_all_finished();
            let at = match next {
                NextStep::End(at) if at <= start.elapsed() => return StopReason::Complete,
                NextStep::GiveUp { unsent } => {
                    self.results.stats.unsent = unsent;
                    return StopReason::Complete;
                }
                NextStep::End(at) | NextStep::Send(at) => at,
            };
            self.results
                .stderr
                .update_progress(self.results.stats.counts(), self.in_flight.len());
            let elapsed = start.elapsed();
            // What is late already is sent at once, and nothing is sent before it is due.
            let wake = if at <= elapsed {
                Instant::now()
            } else {
                start + at.max(elapsed + COALESCE_TIME)
            };
            tokio::select! {
                biased;
                () = signals.next() => return StopReason::Interrupted,
                () = self.results.status_lines.closed() => return StopReason::Interrupted,
                Some(finished) = self.in_flight.next_finished() => self.handle_finished(&finished),
                ready = wait_for_event(&mut self.payload, &self.timer, wake, next, last), if !self.in_flight.is_full() => match ready {
                    Ok(true) => {}
                    Ok(false) => return StopReason::Complete,
                    Err(error) => self.results.set_error(error.into()),
                },
            }
        }
        StopReason::Interrupted
    }

    /// Sends events as long as they are due, there is one, and requests may start. What comes next.
    fn send_due(&mut self, start: Instant) -> NextStep {
        for _ in 0..STEPS_PER_TURN_MAX {
            let elapsed = start.elapsed();
            let next = self.next_step(start, elapsed);
            match next {
                NextStep::Send(at)
                    if at <= elapsed && !self.in_flight.is_full() && self.payload.is_ready() =>
                {
                    self.send_event(start + at);
                }
                _ => return next,
            }
        }
        self.next_step(start, start.elapsed())
    }

    /// What the schedule says next, after the pause if there is one, which does not outlast the run.
    fn next_step(&self, start: Instant, elapsed: Duration) -> NextStep {
        let pause = self
            .connect_backoff
            .as_ref()
            .and_then(ConnectBackoff::paused_until);
        match (self.schedule.next_step(elapsed), pause) {
            (NextStep::Send(at), Some(until)) => {
                let until = until.saturating_duration_since(start);
                NextStep::Send(at.max(self.schedule.end_time().map_or(until, |end| until.min(end))))
            }
            (next, _) => next,
        }
    }

    /// Takes the answers that have come already.
    fn handle_all_finished(&mut self) {
        for _ in 0..STEPS_PER_TURN_MAX {
            let Some(finished) = self.in_flight.poll_finished() else {
                return;
            };
            self.handle_finished(&finished);
        }
    }

    fn handle_finished(&mut self, finished: &FinishedRequest) {
        let FinishedRequest {
            events, outcome, ..
        } = finished;
        if events.frees_lane {
            self.lanes
                .release_after(events.lane, events.dues.len() as u64, outcome);
        }
        if let Some(connect_backoff) = &mut self.connect_backoff {
            connect_backoff.observe(outcome, Instant::now());
        }
        self.results.record_finished(finished);
    }

    /// Waits for the last answers and prints the last lines: not long if the run was stopped.
    async fn finish_requests(&mut self, end: StopReason, signals: &mut Signals) {
        let soon = || Instant::now() + STOP_WAIT;
        let mut deadline = (end == StopReason::Interrupted).then(soon);
        while !self.in_flight.is_empty() {
            self.results
                .stderr
                .update_progress(self.results.stats.counts(), self.in_flight.len());
            tokio::select! {
                biased;
                // The first signal of a run that is done means soon; the second of any means now.
                () = signals.next() => deadline = Some(deadline.map_or_else(soon, |_| Instant::now())),
                Some(finished) = self.in_flight.next_finished() => self.handle_finished(&finished),
                () = sleep_until_deadline(deadline) => break,
            }
        }
        for (sequences, lane) in self.in_flight.abandon_all() {
            self.results.record_abandoned(sequences, lane);
        }
        let deadline = deadline.map(|_| soon());
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

    /// Sends the next event, which was due at `due` by the schedule.
    fn send_event(&mut self, due: Instant) {
        // In this order: a pause between the two makes the event a little older, and never younger than it is.
        let (now_us, now) = (unix_time_us(), Instant::now());
        // What was not read yet could not be sent: that is no delay of the server's.
        let due = if let Payload::Replay(replay) = &self.payload {
            due.max(replay.read_at().into())
        } else {
            due
        };
        let sequence = self.results.stats.counts().sent;
        let gathering = self.batch.as_ref().and_then(BatchBuilder::lane);
        let lane = gathering.unwrap_or_else(|| self.lanes.acquire());
        let slot = EventSlot {
            lane,
            due_us: now_us.saturating_sub(as_micros(now.saturating_duration_since(due))),
        };
        let Some(event) = self.payload.next_event(slot, &mut self.data) else {
            if gathering.is_none() {
                self.lanes.release_unused(lane);
            }
            return;
        };
        self.results.stats.count_sent(now.into_std());
        self.schedule.advance();
        if let Some(batch) = &mut self.batch {
            if let Some(gathered) = batch.push(sequence, lane, due, &event, &self.data) {
                self.start_batch(gathered);
            }
            return;
        }
        let events = RequestEvents {
            first: sequence,
            lane,
            frees_lane: true,
            dues: vec![due],
        };
        let expected = if self.requests.uses_sse_server_api() {
            ExpectedReply::Event
        } else {
            ExpectedReply::AnySuccess
        };
        match self
            .requests
            .build_event_request(&event, &self.data, sequence)
        {
            Ok(outgoing) => self.start_request(events, expected, outgoing),
            Err(error) => {
                let outcome = Outcome::NotStored(Failure::Unsendable(error.to_string()));
                self.in_flight
                    .push(events, std::future::ready((None, outcome)));
            }
        }
    }

    fn start_batch(&mut self, gathered: CompleteBatch) {
        let CompleteBatch {
            first,
            lane,
            frees_lane,
            dues,
            lines,
        } = gathered;
        let expected = ExpectedReply::Batch(dues.len() as u64);
        self.start_request(
            RequestEvents {
                first,
                lane,
                frees_lane,
                dues,
            },
            expected,
            self.requests.build_batch_request(lines),
        );
    }

    fn start_request(
        &mut self,
        events: RequestEvents,
        expected: ExpectedReply,
        outgoing: OutgoingRequest,
    ) {
        let publisher = Rc::clone(&self.publisher);
        if let Some(retry) = self.retry.clone() {
            self.in_flight.push(events, async move {
                retry
                    .send_with_retries(&publisher, expected, outgoing)
                    .await
            });
            return;
        }
        self.in_flight.push(events, async move {
            let reply = publisher.send(outgoing).await;
            (
                reply.as_ref().ok().map(|reply| reply.status),
                Outcome::from_reply(expected, reply),
            )
        });
    }
}

/// Waits until the next event is due and there is one: false if there are no more, or none by the end of the duration.
///
/// When the schedule is only waiting for its end there need be none.
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

/// Now, in microseconds since the Unix epoch. A clock before 1970 is wrong anyhow.
fn unix_time_us() -> u64 {
    as_micros(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
