//! The state of an engine.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Poll, Token, Waker};
use rand::{SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::{
    ending::{EndReason, Stage},
    handshakes::Handshakes,
    stop::StopHandle,
};
use crate::load::{
    collector::Collector,
    connection::{LoadConnection, ReadBuffers},
    event_reader::EventReader,
    http2::SharedConnections,
    plan::Plan,
    progress::Snapshot,
    publishers::Publishers,
    schedule::{CutSchedule, Interval, Ramp, ReconnectQueue},
    stats::Stats,
};

/// How often connections that are behind are looked for while the run settles.
const CATCH_UP_PERIOD: Duration = Duration::from_millis(20);

pub(super) const WAKE: Token = Token(usize::MAX);

/// All connections of a run, and what is due.
pub(crate) struct Engine<'p> {
    pub(super) plan: &'p Plan,
    pub(super) poll: Poll,
    pub(super) stop: StopHandle,
    pub(super) rng: Xoshiro256PlusPlus,
    pub(super) start: Instant,
    pub(super) stage: Stage,
    /// The streams; over HTTP/1.1, each has a connection of its own.
    pub(super) connections: Vec<LoadConnection>,
    /// Connections with several streams; empty over HTTP/1.1.
    pub(super) shared: SharedConnections,
    pub(super) collector: Collector,
    pub(super) buffers: ReadBuffers,
    /// Connections that did not read everything in their turn.
    pub(super) unread: Vec<u32>,
    pub(super) connects: ConnectSchedule,
    pub(super) handshakes: Handshakes,
    pub(super) cuts: Option<CutSchedule>,
    /// The check of time limits.
    pub(super) sweep: Interval,
    pub(super) catch_up: CatchUp,
    pub(super) counts: EngineCounts,
}

/// Connections to be made.
pub(super) struct ConnectSchedule {
    pub(super) ramp: Ramp,
    /// Connections of the ramp that were begun.
    pub(super) begun: u32,
    pub(super) reconnects: ReconnectQueue,
}

/// The check whether a connection is behind others.
pub(super) struct CatchUp {
    pub(super) check: Interval,
    /// A connection that was behind at the last check, to begin the next one with.
    pub(super) last_behind: usize,
}

/// Counts that the end of the run depends on.
#[derive(Default)]
pub(super) struct EngineCounts {
    /// Streams that ended or were cut.
    pub(super) closed_streams: u64,
    /// Connections that are not made again.
    pub(super) done: u32,
    /// Connections whose first attempt led to no stream.
    pub(super) failed_first: u32,
    /// Streams at the end of the measurement.
    pub(super) streaming_at_end: u64,
}

/// The result of a run: everything that was counted.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) reason: EndReason,
    pub(crate) connections: Vec<LoadConnection>,
    pub(crate) collector: Collector,
    /// Time of the measurement.
    pub(crate) elapsed: Duration,
    /// Time added for connections that were behind.
    pub(crate) settled: Duration,
    /// Streams at the end of the measurement.
    pub(crate) streaming: u64,
}

impl ConnectSchedule {
    fn new(plan: &Plan, start: Instant) -> Self {
        Self {
            ramp: Ramp::new(start, plan.connections, plan.ramp),
            begun: 0,
            reconnects: ReconnectQueue::default(),
        }
    }
}

impl CatchUp {
    fn new(start: Instant) -> Self {
        Self {
            check: Interval::new(start, CATCH_UP_PERIOD),
            last_behind: 0,
        }
    }
}

fn create_connections(plan: &Plan, start: Instant) -> Vec<LoadConnection> {
    let reader = || EventReader::new(plan.event_bytes_max).starting_after(&plan.first_id);
    (0..plan.connections)
        .map(|_| LoadConnection::new(reader(), start))
        .collect()
}

fn create_shared_connections(plan: &Plan) -> SharedConnections {
    let count = plan.http2_streams.map_or(0, |_| plan.sockets);
    SharedConnections::new(count, plan.connections)
}

fn create_collector(plan: &Plan) -> Collector {
    Collector {
        stats: Stats::new(),
        publishers: Publishers::default(),
        rules: plan.rules.clone(),
    }
}

/// Returns the period of the check for time limits, so that a limit is exceeded by at most 1/8.
fn sweep_period(idle_timeout: Duration) -> Duration {
    (idle_timeout / 8).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

impl<'p> Engine<'p> {
    /// Prepares a run.
    ///
    /// # Errors
    /// The operating system provides no event loop.
    pub(crate) fn new(plan: &'p Plan) -> io::Result<Self> {
        let poll = Poll::new()?;
        let stop = StopHandle::new(Waker::new(poll.registry(), WAKE)?);
        let start = Instant::now();
        Ok(Self {
            plan,
            poll,
            stop,
            rng: Xoshiro256PlusPlus::seed_from_u64(plan.seed),
            start,
            stage: Stage::Running,
            connections: create_connections(plan, start),
            shared: create_shared_connections(plan),
            collector: create_collector(plan),
            buffers: ReadBuffers::new(),
            unread: Vec::new(),
            connects: ConnectSchedule::new(plan, start),
            handshakes: Handshakes::default(),
            cuts: plan
                .cuts
                .map(|(period, share)| CutSchedule::new(start, period, share)),
            sweep: Interval::new(start, sweep_period(plan.idle_timeout)),
            catch_up: CatchUp::new(start),
            counts: EngineCounts::default(),
        })
    }

    /// The handle that stops the run.
    pub(crate) fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    pub(super) fn connection(&mut self, index: u32) -> &mut LoadConnection {
        &mut self.connections[index as usize]
    }

    /// When the measurement ends, if it has a duration.
    pub(super) fn time_up(&self) -> Option<Instant> {
        self.plan.duration.map(|duration| self.start + duration)
    }

    /// Number of open streams.
    pub(super) fn streaming(&self) -> u64 {
        self.collector.stats.connects.opened - self.counts.closed_streams
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let stats = &self.collector.stats;
        Snapshot {
            elapsed: now - self.start,
            wanted: self.plan.connections,
            streaming: self.streaming(),
            events: stats.events,
            wire_bytes: stats.wire_bytes,
            settling: !self.stage.is_running(),
        }
    }
}
