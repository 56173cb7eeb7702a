//! Event loop of a fan-out thread, which owns the sockets of thousands of streams and never waits
//! for one of them.
//!
//! Each round handles the sockets that became ready and the messages in the mailbox. Then it does
//! each kind of work for at most one [`SLICE`], except the check for stalled streams:
//!
//! ```text
//! poll sockets ► drain mailbox ► passes   ► new streams ► completions ► queued streams
//!                                [coalesce] [admit]       [history]     [send]
//!                              ► heartbeats ► unreachable clients ► stalled streams ► end of round
//!                                [heartbeats] [unreachable]         [write_timeout]
//!                                             [ends, access]
//! ```
//!
//! A pass over a large view therefore does not delay new streams, and closed connections are
//! noticed during it. Live events come first, then streams that catch up, then heartbeats. The check
//! for stalled streams visits all blocked streams in one go,
//! once per [`retry_interval`](super::stall::retry_interval).

mod access;
mod admit;
mod blocked;
mod coalesce;
mod ends;
mod heartbeats;
mod history;
mod inbox;
mod pass_pace;
mod send;
mod shutdown;
mod unreachable;
mod view_caches;
mod write_timeout;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll};
use slab::Slab;
use tokio::runtime::Handle;

use self::{
    access::AccessSweep, ends::EndSearch, pass_pace::PassPace, unreachable::UnreachableSearch,
};
use super::{
    blocked::BlockedBytes,
    connection::Connection,
    drain::Drain,
    heartbeat_wheel::Wheel,
    mailbox::{Completion, Mailbox, NewStream, ViewWaker, WAKE},
    page_cache::PageCache,
    view::{View, ViewKey},
};
use crate::{budget::Turns, channel::Hub, metrics::Metrics};

/// Longest time for one kind of work in one round.
const SLICE: Duration = Duration::from_micros(1500);
/// Streams that are served between two readings of the clock.
const STREAMS_PER_CLOCK_READ: usize = 16;
/// Chunks that one stream is sent before the others have their turn.
const CHUNKS_IN_A_ROW: usize = 4;

/// Settings of the fan-out threads.
#[derive(Debug, Clone, Copy)]
pub struct FanoutSettings {
    /// Longest time from the end of a pass over a view to the start of the next one, if a tail of
    /// the view has changed.
    pub coalesce: Duration,
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// Time after which clients reconnect.
    pub retry: Duration,
    /// Shortest time without progress after which a client is stalled; see
    /// [`stall`](crate::fanout::stall).
    pub write_timeout: Duration,
}

/// What the fan-out threads work with.
#[derive(Debug, Clone)]
pub struct Context {
    /// How the threads write.
    pub settings: FanoutSettings,
    /// The channels.
    pub hub: Hub,
    /// Pages of history.
    pub pages: PageCache,
    /// Memory of the streams whose sockets are full.
    pub blocked: BlockedBytes,
    /// Ends the streams one after another.
    pub drain: Drain,
    /// The metrics.
    pub metrics: Metrics,
    /// Runs the tasks of the threads.
    pub runtime: Handle,
}

/// State of one fan-out thread.
pub(super) struct Reactor<'p> {
    poll: &'p mut Poll,
    mailbox: Arc<Mailbox>,
    context: Context,
    connections: Slab<Connection>,
    views: Slab<WatchedView>,
    views_by_key: HashMap<Rc<ViewKey>, usize>,
    /// Views whose pass is due or under way, in turn.
    due_passes: VecDeque<usize>,
    /// Views whose pass may not start before the time, earliest first.
    waiting_passes: BinaryHeap<Reverse<(Instant, usize)>>,
    pace: PassPace,
    new_streams: VecDeque<NewStream>,
    /// Clients take turns, because a page can be large and costly to encode.
    completions: Turns<Completion>,
    /// Streams that have more to send at once.
    queued: VecDeque<usize>,
    /// Streams whose sockets are full.
    blocked: HashSet<usize>,
    next_stall_check: Instant,
    /// Search for the streams of unreachable clients; `None` if none is under way.
    search: Option<UnreachableSearch>,
    /// Checks whether callers may still read.
    access_sweep: AccessSweep,
    /// Search for streams whose time is over.
    ends: EndSearch,
    wheel: Wheel,
    /// Views whose caches were used outside of a pass in this round.
    used_views: Vec<usize>,
    /// Bytes of the chunks in these caches.
    cached_bytes: usize,
    deliveries: UnreportedDeliveries,
    is_draining: bool,
    is_stopping: bool,
    is_closed: bool,
    /// Time of the last clock reading.
    now: Instant,
}

/// Deliveries that the metrics do not contain yet.
#[derive(Debug, Default)]
struct UnreportedDeliveries {
    events: usize,
    bytes: usize,
}

/// A view, and the state of its passes.
struct WatchedView {
    view: View,
    waker: Arc<ViewWaker>,
    pass: Pass,
    /// Earliest start of the next pass.
    not_before: Instant,
    /// Time that the pass under way has taken.
    pass_cost: Duration,
    /// The first change that the pass sends.
    changed_at: Option<Instant>,
}

/// State of a view's pass, in which every stream of the view takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// No tail has changed since the last pass.
    None,
    /// A tail has changed; the pass starts at `not_before`.
    Waiting,
    /// The pass may run.
    Due {
        /// Members that have not had their turn; `None` if the pass has not started.
        left: Option<usize>,
        /// A tail has changed since the start of the pass.
        again: bool,
    },
}

impl<'p> Reactor<'p> {
    pub(super) fn new(poll: &'p mut Poll, mailbox: Arc<Mailbox>, context: Context) -> Self {
        let now = Instant::now();
        Self {
            poll,
            mailbox,
            wheel: Wheel::new(context.settings.heartbeat, now),
            pace: PassPace::new(context.settings.coalesce, now),
            context,
            connections: Slab::new(),
            views: Slab::new(),
            views_by_key: HashMap::new(),
            due_passes: VecDeque::new(),
            waiting_passes: BinaryHeap::new(),
            new_streams: VecDeque::new(),
            completions: Turns::default(),
            queued: VecDeque::new(),
            blocked: HashSet::new(),
            next_stall_check: now,
            search: None,
            access_sweep: AccessSweep::default(),
            ends: EndSearch::new(now),
            used_views: Vec::new(),
            cached_bytes: 0,
            deliveries: UnreportedDeliveries::default(),
            is_draining: false,
            is_stopping: false,
            is_closed: false,
            now,
        }
    }

    /// Serves streams until the mailbox is closed.
    ///
    /// # Errors
    ///
    /// The event queue does not work.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        // Messages that came before the thread had a reactor do not wake this one.
        self.drain_mailbox();
        loop {
            self.poll_sockets(&mut events)?;
            self.drain_mailbox();
            if self.is_stopping {
                self.end_all_streams();
                if self.is_closed {
                    return Ok(());
                }
            } else {
                self.run_round();
            }
        }
    }

    fn poll_sockets(&mut self, events: &mut Events) -> io::Result<()> {
        self.now = Instant::now();
        let mut timeout = self.time_until_work();
        // An awake thread needs no wake-up for a message.
        if timeout != Some(Duration::ZERO) && !self.mailbox.prepare_sleep() {
            timeout = Some(Duration::ZERO);
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        self.now = Instant::now();
        for event in &*events {
            if event.token() != WAKE {
                self.handle_socket_event(event);
            }
        }
        Ok(())
    }

    fn run_round(&mut self) {
        self.start_waiting_passes();
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::run_pass);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::admit_next);
        // A single page may take longer than a slice.
        self.run_slice(1, Self::handle_completion);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::resume_queued);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::check_heartbeat);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::close_next_unreachable);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::end_next_due);
        self.run_slice(STREAMS_PER_CLOCK_READ, Self::check_next_caller);
        self.close_stalled();
        self.end_of_round();
    }

    /// Repeats one kind of work until the slice is over or `work` returns `false`. The clock is read
    /// after each `items_per_clock_read` of it.
    fn run_slice(
        &mut self,
        items_per_clock_read: usize,
        work: impl Fn(&mut Self, Instant) -> bool,
    ) {
        let end = Instant::now() + SLICE;
        let mut done = 0_usize;
        while work(self, end) {
            done += 1;
            if done.is_multiple_of(items_per_clock_read) {
                self.now = Instant::now();
                if self.now >= end {
                    return;
                }
            }
        }
    }

    /// Returns how long the reactor may sleep; `None` if only an event can bring work.
    fn time_until_work(&self) -> Option<Duration> {
        if self.is_stopping {
            return None;
        }
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let time_until = |at: Instant| at.saturating_duration_since(self.now);
        let next_pass = self.waiting_passes.peek();
        let stall_check = (!self.blocked.is_empty()).then_some(self.next_stall_check);
        [
            next_pass.map(|Reverse((at, _))| time_until(*at)),
            stall_check.map(time_until),
            self.access_sweep.due(self.now).map(time_until),
            self.wheel.time_until_work(self.now),
            self.ends.time_until_work(self.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn has_work(&self) -> bool {
        !(self.due_passes.is_empty()
            && self.new_streams.is_empty()
            && self.completions.is_empty()
            && self.queued.is_empty()
            && self.search.is_none())
    }

    /// Clears the caches that this round used, and reports its deliveries.
    fn end_of_round(&mut self) {
        self.clear_used_views();
        let UnreportedDeliveries { events, bytes } = std::mem::take(&mut self.deliveries);
        if bytes > 0 {
            self.context.metrics.delivered(events, bytes);
        }
    }

    /// Returns the connection of a stream and its view; `None` if the stream is closed.
    fn connection_and_view(&mut self, key: usize) -> Option<(&mut Connection, &mut WatchedView)> {
        let connection = self.connections.get_mut(key)?;
        let watched = self.views.get_mut(connection.view as usize)?;
        Some((connection, watched))
    }
}

/// Converts a key to the size in which it is stored.
///
/// # Errors
///
/// `OutOfMemory` if the key does not fit, which would take more descriptors than a system has.
fn to_stored_key(key: usize) -> io::Result<u32> {
    u32::try_from(key).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
