//! The loop of one thread over all connections: edge-triggered readiness, one read buffer, and a few things that are
//! due by the clock.
//!
//! Nothing has a timer of its own. What is due (a reconnection, the next connect of the ramp, the next cuts, the end) is
//! looked at once in a turn of the loop, and what is overdue (an idle stream, a handshake) is found by a sweep.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::index};

use super::{
    collector::Collector,
    connection::{Connection, Limits, Loss, Over, Phase, Turn, kind_of},
    events::{EventReader, Scratch},
    plan::Plan,
    progress::{Progress, Snapshot},
    publishers::Publishers,
    schedule::{Cuts, Every, Ramp, Waiting},
    stats::{Stats, increment},
};
use crate::follow::{
    error_message,
    retry_pace::{ASKED_MAX, Pace},
};

/// Handshakes that may be in flight: servers keep a queue of some hundreds for those that they have not accepted.
const IN_FLIGHT_MAX: usize = 256;
/// After this a handshake counts no longer: some servers (Flask-SSE under gunicorn) do not even send a head before the
/// first event.
const IN_FLIGHT_TIME_MAX: Duration = Duration::from_millis(250);
/// A connection that takes longer to be made is tried anew.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The message of a refusal may take so long.
const MESSAGE_MAX: Duration = Duration::from_secs(2);
/// A stream that was open for so long was a success, and the next failure is a first one.
const SUCCESS_AFTER: Duration = Duration::from_secs(5);
/// If so many connections were tried and none could be opened, the others cannot be either.
const HOPELESS_AFTER: u32 = 64;
/// How often it is looked whether everybody has caught up.
const CAUGHT_UP_EVERY: Duration = Duration::from_millis(20);
/// A read takes at most this.
const BUFFER_BYTES: usize = 64 << 10;
/// Readiness that is taken from the operating system at once.
const EVENTS_MAX: usize = 1024;
/// The loop looks at the clock at least so often.
const TURN_MAX: Duration = Duration::from_millis(500);

const WAKE: Token = Token(usize::MAX);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `--duration` is over.
    Duration,
    /// Every connection has received `--count` events.
    Count,
    /// Ctrl-C or SIGTERM.
    Signal,
    /// No connection was left: all were refused for good, or the server has no more.
    NoneLeft,
    /// None could be opened.
    NothingOpened,
}

/// What is left of a run: everything that was counted.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) reason: Reason,
    pub(crate) connections: Vec<Connection>,
    pub(crate) collector: Collector,
    /// Up to the end of the time, and what was added to it for those behind.
    pub(crate) elapsed: Duration,
    pub(crate) settled: Duration,
    /// Streams at the end of the time.
    pub(crate) streaming: u64,
}

/// Says from another thread that it is enough.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    asked: Arc<AtomicU32>,
    waker: Arc<Waker>,
}

impl Stop {
    /// Asks to stop; the second time, at once.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // Fails only if the loop is gone.
        let _ = self.waker.wake();
    }
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Running,
    /// The time is up, but some have not caught up yet.
    Settling {
        reason: Reason,
        since: Instant,
    },
    Over {
        reason: Reason,
        time_up: Instant,
        at: Instant,
    },
}

/// All connections of a run, and what they wait for.
pub(crate) struct Engine<'p> {
    plan: &'p Plan,
    poll: Poll,
    stop: Stop,
    connections: Vec<Connection>,
    collector: Collector,
    buffer: Vec<u8>,
    scratch: Scratch,
    rng: Xoshiro256PlusPlus,
    start: Instant,
    stage: Stage,
    ramp: Ramp,
    /// Connections of the ramp that were asked for.
    begun: u32,
    waiting: Waiting,
    flights: VecDeque<(Instant, u32)>,
    in_flight: usize,
    /// Connections that did not finish reading in their turn.
    unread: Vec<u32>,
    cuts: Option<Cuts>,
    sweep: Every,
    catching_up: Every,
    /// A connection that was behind when that was last looked at.
    last_behind: usize,
    /// Streams that were lost or closed.
    closed_streams: u64,
    /// Connections that are over for good.
    done: u32,
    /// Connections whose first attempt is over, and led to no stream.
    tried_in_vain: u32,
    streaming_at_the_end: u64,
}

impl<'p> Engine<'p> {
    /// Everything ready, nothing begun.
    ///
    /// # Errors
    /// The operating system gives no event loop.
    pub(crate) fn new(plan: &'p Plan) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let start = Instant::now();
        let reader = || EventReader::new(plan.event_bytes_max).after(&plan.first_id);
        Ok(Self {
            plan,
            poll,
            stop: Stop {
                asked: Arc::default(),
                waker,
            },
            connections: (0..plan.connections)
                .map(|_| Connection::new(reader(), start))
                .collect(),
            collector: Collector {
                stats: Stats::new(),
                publishers: Publishers::default(),
                rules: plan.rules.clone(),
            },
            buffer: vec![0; BUFFER_BYTES],
            scratch: Scratch::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(plan.seed),
            start,
            stage: Stage::Running,
            ramp: Ramp::new(start, plan.connections, plan.ramp),
            begun: 0,
            waiting: Waiting::default(),
            flights: VecDeque::new(),
            in_flight: 0,
            unread: Vec::new(),
            cuts: plan
                .cuts
                .map(|(every, share)| Cuts::new(start, every, share)),
            sweep: Every::new(
                start,
                (plan.idle_timeout / 8).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            ),
            catching_up: Every::new(start, CAUGHT_UP_EVERY),
            last_behind: 0,
            closed_streams: 0,
            done: 0,
            tried_in_vain: 0,
            streaming_at_the_end: 0,
        })
    }

    /// By which it is stopped.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs until it is over.
    ///
    /// # Errors
    /// The event loop itself fails.
    pub(crate) fn run(mut self, progress: &mut Progress) -> io::Result<Finished> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            self.do_what_is_due(now);
            if progress.is_due(now) {
                progress.show(&self.snapshot(now));
            }
            if let Stage::Over {
                reason,
                time_up,
                at,
            } = self.stage
            {
                return Ok(Finished {
                    reason,
                    connections: self.connections,
                    collector: self.collector,
                    elapsed: time_up - self.start,
                    settled: at - time_up,
                    streaming: self.streaming_at_the_end,
                });
            }
            match self
                .poll
                .poll(&mut events, Some(self.poll_timeout(now, progress.due())))
            {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.take_turns(&events),
            }
        }
    }

    fn take_turns(&mut self, events: &Events) {
        let now = Instant::now();
        for event in events {
            let Ok(index) = u32::try_from(event.token().0) else {
                continue;
            };
            if event.is_writable() || event.is_error() {
                let turn = self.connection(index).write();
                self.after(turn, index, now);
            }
            // An error is read as one.
            let closed = event.is_read_closed() || event.is_error();
            if event.is_readable() || closed {
                self.read(index, now, closed);
            }
        }
        for index in std::mem::take(&mut self.unread) {
            self.read(index, now, true);
        }
    }

    fn connection(&mut self, index: u32) -> &mut Connection {
        &mut self.connections[index as usize]
    }

    fn read(&mut self, index: u32, now: Instant, closed: bool) {
        let connection = &mut self.connections[index as usize];
        let turn = connection.read(
            &mut self.buffer,
            &mut self.scratch,
            &mut self.collector,
            now,
            closed,
        );
        self.after(turn, index, now);
    }

    fn after(&mut self, turn: Turn, index: u32, now: Instant) {
        match turn {
            Turn::Wait => {}
            Turn::Again => self.unread.push(index),
            Turn::Over(over) => self.over(index, over, now),
        }
        if self.connections[index as usize].in_flight
            && !self.connections[index as usize].is_asking()
        {
            self.land(index);
        }
    }

    /// Its handshake is not in flight any more.
    fn land(&mut self, index: u32) {
        if std::mem::take(&mut self.connection(index).in_flight) {
            self.in_flight -= 1;
        }
    }

    /// How long to wait for readiness.
    fn poll_timeout(&self, now: Instant, progress_due: Instant) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let room = self.in_flight < IN_FLIGHT_MAX;
        let running = matches!(self.stage, Stage::Running);
        let due = [
            self.waiting.next_due().filter(|_| room),
            (room && running && self.begun < self.plan.connections)
                .then(|| self.ramp.due(self.begun)),
            self.flights
                .front()
                .filter(|_| !room)
                .map(|(asked, _)| *asked + IN_FLIGHT_TIME_MAX),
            self.cuts.filter(|_| running).map(|cuts| cuts.due),
            self.time_up().filter(|_| running),
            (!running).then_some(self.catching_up.due),
            Some(self.sweep.due),
            Some(progress_due),
        ];
        let next = due.into_iter().flatten().min();
        next.map_or(TURN_MAX, |next| next.saturating_duration_since(now))
            .min(TURN_MAX)
    }

    fn time_up(&self) -> Option<Instant> {
        self.plan.duration.map(|duration| self.start + duration)
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if self.sweep.is_due(now) {
            self.sweep(now);
        }
        self.end_if_it_is_time(now);
        if matches!(self.stage, Stage::Running) && self.cuts.is_some_and(|cuts| now >= cuts.due) {
            self.cut(now);
        }
        self.connect_who_is_due(now);
    }

    fn sweep(&mut self, now: Instant) {
        let limits = Limits {
            connect: CONNECT_MAX,
            idle: self.plan.idle_timeout,
            message: MESSAGE_MAX,
        };
        for index in 0..self.plan.connections {
            if let Some(over) = self.connection(index).overdue(now, &limits) {
                self.after(Turn::Over(over), index, now);
            }
        }
    }

    fn cut(&mut self, now: Instant) {
        let streams: Vec<u32> = (0..self.plan.connections)
            .filter(|index| self.connection(*index).has_stream())
            .collect();
        let Some(cuts) = &mut self.cuts else { return };
        let count = cuts.take(now, streams.len());
        for chosen in index::sample(&mut self.rng, streams.len(), count) {
            let index = streams[chosen];
            self.collector.stats.ends.cut += 1;
            self.closed_streams += 1;
            let connection = self.connection(index);
            connection.close(Phase::Waiting);
            connection.lost = Some((Instant::now(), Loss::Cut));
            self.waiting.add(now, index);
        }
    }

    fn connect_who_is_due(&mut self, now: Instant) {
        while let Some((asked, index)) = self.flights.front().copied()
            && (now.saturating_duration_since(asked) >= IN_FLIGHT_TIME_MAX
                || !self.is_that_flight(asked, index))
        {
            self.flights.pop_front();
            if self.is_that_flight(asked, index) {
                self.land(index);
            }
        }
        let running = matches!(self.stage, Stage::Running);
        while self.in_flight < IN_FLIGHT_MAX {
            if let Some(index) = self.waiting.pop_due(now) {
                // Whoever never had a stream when the time is up needs none any more.
                if running || self.connection(index).first_opened.is_some() {
                    self.connect(index, now);
                }
            } else if running
                && self.begun < self.plan.connections
                && self.ramp.due(self.begun) <= now
            {
                self.begun += 1;
                self.connect(self.begun - 1, now);
            } else {
                break;
            }
        }
    }

    fn is_that_flight(&self, asked: Instant, index: u32) -> bool {
        let connection = &self.connections[index as usize];
        connection.in_flight && connection.asked == asked
    }

    fn connect(&mut self, index: u32, now: Instant) {
        let plan = self.plan;
        self.collector.stats.connects.asked += 1;
        let connection = self.connection(index);
        // Spread in turn; who does not get a stream goes on to the next.
        let nth = (index as usize).wrapping_add(connection.detours as usize) % plan.nodes.len();
        let node = &plan.nodes[nth];
        let (request, with_id) = node.request.bytes(&connection.reader.last_event_id());
        connection.asked = Instant::now();
        connection.asked_with_id = with_id;
        let socket = plan
            .sources
            .connect(index as usize, node.address)
            .and_then(|mut socket| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut socket, Token(index as usize), interest)?;
                Ok(socket)
            });
        match socket {
            Ok(socket) => {
                let connection = self.connection(index);
                connection.socket = Some(socket);
                connection.phase = Phase::Sending { request, sent: 0 };
                connection.in_flight = true;
                let asked = connection.asked;
                self.in_flight += 1;
                self.flights.push_back((asked, index));
            }
            Err(error) => self.over(index, Over::Broken(kind_of(&error)), now),
        }
    }

    /// Counts the end of a connection, and lets it wait for the next if there is to be one.
    fn over(&mut self, index: u32, over: Over, now: Instant) {
        let stats = &mut self.collector.stats;
        let connection = &mut self.connections[index as usize];
        let (had_stream, first_try) = (connection.has_stream(), !connection.tried);
        let mut asked_to_wait = Duration::ZERO;
        let phase = match over {
            Over::Enough => Phase::Done,
            Over::NoContent => {
                stats.connects.no_content += 1;
                Phase::Done
            }
            Over::Refused(refusal, body) => {
                let told = refusal
                    .location
                    .map_or_else(|| error_message::from_body(&body), |to| format!("to {to}"));
                if !told.is_empty() {
                    stats.connects.rejections.set_message(&refusal.kind, told);
                }
                asked_to_wait = refusal.retry_after.unwrap_or_default().min(ASKED_MAX);
                if refusal.passes {
                    Phase::Waiting
                } else {
                    Phase::Done
                }
            }
            Over::Ended if had_stream => {
                stats.ends.by_server += 1;
                Phase::Waiting
            }
            Over::Broken(kind) if had_stream => {
                increment(&mut stats.ends.broken, kind);
                Phase::Waiting
            }
            Over::Ended => Phase::Waiting,
            Over::Broken(kind) => {
                increment(&mut stats.connects.failed, kind);
                Phase::Waiting
            }
        };
        let is_done = matches!(phase, Phase::Done);
        self.closed_streams += u64::from(had_stream);
        self.done += u32::from(is_done);
        self.tried_in_vain += u32::from(first_try && connection.first_opened.is_none());
        connection.close(phase);
        if had_stream {
            connection.lost = Some((now, Loss::Ended));
        } else {
            connection.detours = connection.detours.wrapping_add(1);
        }
        if !is_done {
            let wait = self
                .wait_before_next(index, had_stream, now)
                .max(asked_to_wait);
            self.waiting.add(now + wait, index);
        }
    }

    /// As the listener waits, and a random share longer: those who were cut together do not come back together.
    fn wait_before_next(&mut self, index: u32, had_stream: bool, now: Instant) -> Duration {
        let (chance, longer): (f64, f64) = (self.rng.random(), self.rng.random());
        let connection = self.connection(index);
        let pace = match connection.first_opened {
            None => Pace::STARTING,
            Some(_) => Pace::of_retry(connection.reader.retry_ms().map(Duration::from_millis)),
        };
        if had_stream && now.saturating_duration_since(connection.opened) >= SUCCESS_AFTER {
            connection.failures = 0;
        }
        let wait = pace.wait(connection.failures, chance);
        connection.failures = connection.failures.saturating_add(1);
        wait.mul_f64(1.0 + longer / 2.0)
    }

    fn end_if_it_is_time(&mut self, now: Instant) {
        let asked_to_stop = self.stop.asked.load(Ordering::Relaxed);
        match self.stage {
            Stage::Running => {
                let all_done = self.done == self.plan.connections;
                if all_done
                    && self.plan.rules.count.is_some()
                    && self.collector.stats.connects.ever_open > 0
                {
                    self.end(Reason::Count, now, now);
                } else if self.is_hopeless() {
                    self.end(Reason::NothingOpened, now, now);
                } else if all_done {
                    self.end(Reason::NoneLeft, now, now);
                } else if asked_to_stop > 0 {
                    self.settle(Reason::Signal, now);
                } else if self.time_up().is_some_and(|time_up| now >= time_up) {
                    self.settle(Reason::Duration, now);
                }
            }
            Stage::Settling { reason, since } => {
                let too_late =
                    now.saturating_duration_since(since) >= self.plan.settle || asked_to_stop > 1;
                if too_late || (self.catching_up.is_due(now) && !self.is_anyone_behind()) {
                    self.end(reason, since, now);
                }
            }
            Stage::Over { .. } => {}
        }
    }

    fn is_hopeless(&self) -> bool {
        let tried = self.plan.connections.min(HOPELESS_AFTER);
        self.collector.stats.connects.ever_open == 0
            && self.tried_in_vain >= tried
            && self.in_flight == 0
    }

    fn settle(&mut self, reason: Reason, now: Instant) {
        self.collector.publishers.set_targets();
        self.streaming_at_the_end = self.streaming();
        self.stage = Stage::Settling { reason, since: now };
        if !self.is_anyone_behind() {
            self.end(reason, now, now);
        }
    }

    fn end(&mut self, reason: Reason, time_up: Instant, now: Instant) {
        if matches!(self.stage, Stage::Running) {
            self.collector.publishers.set_targets();
            self.streaming_at_the_end = self.streaming();
        }
        self.stage = Stage::Over {
            reason,
            time_up,
            at: now,
        };
    }

    /// Begins with whoever was behind when it was asked last: mostly it still is, and the others need not be looked at.
    fn is_anyone_behind(&mut self) -> bool {
        let publishers = &self.collector.publishers;
        let (before, from) = self.connections.split_at(self.last_behind);
        let is_behind = |one: &Connection| {
            !one.is_done()
                && one
                    .received
                    .sequences
                    .is_behind(publishers, one.first_opened)
        };
        let found = from.iter().chain(before).position(is_behind);
        self.last_behind = found.map_or(0, |found| {
            (self.last_behind + found) % self.connections.len()
        });
        found.is_some()
    }

    fn streaming(&self) -> u64 {
        self.collector.stats.connects.opened - self.closed_streams
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let stats = &self.collector.stats;
        Snapshot {
            elapsed: now - self.start,
            wanted: self.plan.connections,
            streaming: self.streaming(),
            events: stats.events,
            wire_bytes: stats.wire_bytes,
            settling: !matches!(self.stage, Stage::Running),
        }
    }
}
