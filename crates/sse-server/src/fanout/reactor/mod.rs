//! One fan-out thread: an event loop that owns the sockets of thousands of streams and never waits for one of them.
//!
//! Work is done in slices, so that new streams are admitted and closed ones noticed while a pass over a large crowd is
//! under way: live events first, then streams that catch up, heartbeats last.

mod admit;
mod history;
mod passes;
mod send;
mod timers;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Events, Poll, Token};
use slab::Slab;

use super::{
    admission::CloseReason,
    connection::Subscriber,
    heartbeat_wheel::Wheel,
    thread::{Completion, Context, Mailbox, NewStream, ViewWaker},
    view::{View, ViewKey},
};

/// The waker's token.
pub(super) const WAKE: Token = Token(usize::MAX);
/// What one kind of work gets before the others have their turn.
const SLICE: Duration = Duration::from_micros(1500);
/// So many streams are served between two looks at the clock.
const BETWEEN_LOOKS: usize = 16;
/// Chunks for one stream before others have their turn.
const CHUNKS_IN_A_ROW: usize = 4;

/// What one thread owns.
pub(super) struct Reactor<'p> {
    poll: &'p mut Poll,
    mailbox: Arc<Mailbox>,
    context: Context,
    subscribers: Slab<Subscriber>,
    views: Slab<Watched>,
    by_key: HashMap<Rc<ViewKey>, usize>,
    /// Views whose pass is due or under way, in turn.
    due: VecDeque<usize>,
    /// Views whose pass may not begin yet.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    new_streams: VecDeque<NewStream>,
    completions: VecDeque<Completion>,
    /// Streams that have more to do at once.
    queued: VecDeque<usize>,
    /// Streams whose sockets are full.
    blocked: HashSet<usize>,
    stalled_look: Instant,
    wheel: Wheel,
    /// Views that have worked something out outside of a pass.
    touched: Vec<usize>,
    /// Deliveries and bytes that are not in the metrics yet.
    unreported: (usize, usize),
    is_stopping: bool,
    is_closed: bool,
    now: Instant,
}

/// A view, and when it gets its passes.
struct Watched {
    view: View,
    waker: Arc<ViewWaker>,
    pass: Pass,
    /// Before that no pass may begin.
    not_before: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Everybody has everything.
    None,
    /// One will be due.
    Waiting,
    /// One is due, or under way: so many members are left. `again` if a tail has changed meanwhile.
    Due { left: Option<usize>, again: bool },
}

impl<'p> Reactor<'p> {
    pub(super) fn new(poll: &'p mut Poll, mailbox: Arc<Mailbox>, context: Context) -> Self {
        let now = Instant::now();
        Self {
            poll,
            mailbox,
            wheel: Wheel::new(context.settings.heartbeat, now),
            context,
            subscribers: Slab::new(),
            views: Slab::new(),
            by_key: HashMap::new(),
            due: VecDeque::new(),
            waiting: BinaryHeap::new(),
            new_streams: VecDeque::new(),
            completions: VecDeque::new(),
            queued: VecDeque::new(),
            blocked: HashSet::new(),
            stalled_look: now,
            touched: Vec::new(),
            unreported: (0, 0),
            is_stopping: false,
            is_closed: false,
            now,
        }
    }

    /// Serves until the door is closed.
    ///
    /// # Errors
    /// The event queue does not work.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        // What came while there was no loop did not wake this one.
        self.drain_mailbox();
        loop {
            self.now = Instant::now();
            match self.poll.poll(&mut events, self.time_until_work()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => done?,
            }
            self.now = Instant::now();
            for event in &events {
                if event.token() != WAKE {
                    self.socket_ready(event);
                }
            }
            self.drain_mailbox();
            if self.is_stopping {
                self.end_streams();
                if self.is_closed {
                    return Ok(());
                }
                continue;
            }
            self.begin_passes();
            self.slice(Self::run_pass);
            self.slice(Self::admit);
            self.slice(Self::handle_completion);
            self.slice(Self::resume_queued);
            if self.due.is_empty() {
                self.slice(Self::heartbeat);
            }
            self.close_stalled();
            self.end_of_round();
        }
    }

    /// Does one kind of work for a slice, or until there is none.
    fn slice(&mut self, work: impl Fn(&mut Self, Instant) -> bool) {
        let end = Instant::now() + SLICE;
        let mut done = 0_usize;
        while work(self, end) {
            done += 1;
            if done.is_multiple_of(BETWEEN_LOOKS) {
                self.now = Instant::now();
                if self.now >= end {
                    return;
                }
            }
        }
    }

    /// How long nothing is to do; none if only somebody else can change that.
    fn time_until_work(&self) -> Option<Duration> {
        if self.is_stopping {
            return None;
        }
        let has_work = !(self.due.is_empty()
            && self.new_streams.is_empty()
            && self.completions.is_empty()
            && self.queued.is_empty());
        if has_work {
            return Some(Duration::ZERO);
        }
        let pass = self
            .waiting
            .peek()
            .map(|Reverse((at, _))| at.saturating_duration_since(self.now));
        let stalled = (!self.blocked.is_empty())
            .then(|| self.stalled_look.saturating_duration_since(self.now));
        [pass, stalled, self.wheel.time_until_work(self.now)]
            .into_iter()
            .flatten()
            .min()
    }

    fn drain_mailbox(&mut self) {
        let inbox = self.mailbox.drain();
        self.new_streams.extend(inbox.new_streams);
        self.completions.extend(inbox.completions);
        for view in inbox.changed_views {
            self.view_changed(view);
        }
        self.is_stopping |= inbox.is_stopping;
        self.is_closed |= inbox.is_closed;
    }

    /// Ends all streams: properly where that is possible at once.
    fn end_streams(&mut self) {
        while self.admit(self.now) {}
        let keys: Vec<usize> = self.subscribers.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(subscriber) = self.subscribers.get_mut(key) {
                if !subscriber.is_blocked() {
                    let terminator = Bytes::from_static(subscriber.framing.terminator());
                    // It is over either way.
                    let _ = subscriber.write(&terminator, self.now);
                }
                self.close(key, CloseReason::Shutdown);
            }
        }
        self.end_of_round();
    }

    /// After every round.
    fn end_of_round(&mut self) {
        for view in self.touched.drain(..) {
            if let Some(watched) = self.views.get_mut(view)
                && !matches!(watched.pass, Pass::Due { left: Some(_), .. })
            {
                watched.view.forget();
            }
        }
        let (events, bytes) = std::mem::take(&mut self.unreported);
        if bytes > 0 {
            self.context.metrics.delivered(events, bytes);
        }
    }
}

/// Keys are kept small; there are never so many descriptors that one does not fit.
fn small(key: usize) -> io::Result<u32> {
    u32::try_from(key).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
