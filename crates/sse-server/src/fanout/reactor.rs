//! One fan-out thread: an event loop that owns the sockets of thousands of streams and never waits for one of them.
//!
//! Work is done in slices, so that new streams are admitted and closed ones noticed while a pass over a large crowd is
//! under way: live events first, then streams that catch up, heartbeats last.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};
use slab::Slab;

use super::{
    body::settled,
    detach::Detached,
    pages::Ask,
    subscriber::{Closed, Subscriber, Written},
    threads::{Answer, Answered, Door, Joining, Parts, ViewBell},
    view::{Act, Said, View, Wishes},
    wheel::Wheel,
};
use crate::{
    broker::BrokerError,
    channel::{Listener, multi::Fetch},
};

/// The waker's token.
pub(super) const WAKE: Token = Token(usize::MAX);
/// What one kind of work gets before the others have their turn.
const SLICE: Duration = Duration::from_micros(1500);
/// So many streams are served between two looks at the clock.
const BETWEEN_LOOKS: usize = 16;
/// Chunks for one stream before others have their turn.
const CHUNKS_IN_A_ROW: usize = 4;
/// Between two looks at who is stalled, at the most.
const STALLED_LOOKS: Duration = Duration::from_secs(1);

/// What one thread owns.
pub(super) struct Reactor<'p> {
    poll: &'p mut Poll,
    door: Arc<Door>,
    parts: Parts,
    subscribers: Slab<Subscriber>,
    views: Slab<Watched>,
    by_wishes: HashMap<Wishes, usize>,
    /// Views whose pass is due or under way, in turn.
    due: VecDeque<usize>,
    /// Views whose pass may not begin yet.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    joining: VecDeque<Joining>,
    answers: VecDeque<Answer>,
    /// Streams that have more to do at once.
    queued: VecDeque<usize>,
    /// Streams whose sockets are full.
    blocked: HashSet<usize>,
    stalled_look: Instant,
    wheel: Wheel,
    /// Views that have worked something out outside of a pass.
    touched: Vec<usize>,
    ticket: u64,
    /// Deliveries and bytes that are not in the metrics yet.
    tally: (usize, usize),
    is_stopping: bool,
    is_closed: bool,
    now: Instant,
}

/// A view, and when it gets its passes.
struct Watched {
    view: View,
    bell: Arc<ViewBell>,
    pass: Pass,
    /// Before that no pass may begin.
    rests_until: Instant,
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
    pub(super) fn new(poll: &'p mut Poll, door: Arc<Door>, parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            poll,
            door,
            wheel: Wheel::new(parts.settings.heartbeat, now),
            parts,
            subscribers: Slab::new(),
            views: Slab::new(),
            by_wishes: HashMap::new(),
            due: VecDeque::new(),
            waiting: BinaryHeap::new(),
            joining: VecDeque::new(),
            answers: VecDeque::new(),
            queued: VecDeque::new(),
            blocked: HashSet::new(),
            stalled_look: now,
            touched: Vec::new(),
            ticket: 0,
            tally: (0, 0),
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
        self.take_post();
        loop {
            self.now = Instant::now();
            match self.poll.poll(&mut events, self.rests_for()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => done?,
            }
            self.now = Instant::now();
            for event in &events {
                if event.token() != WAKE {
                    self.socket_ready(event);
                }
            }
            self.take_post();
            if self.is_stopping {
                self.end_streams();
                if self.is_closed {
                    return Ok(());
                }
                continue;
            }
            self.begin_passes();
            self.slice(Self::pass_on);
            self.slice(Self::admit);
            self.slice(Self::take_answer);
            self.slice(Self::go_on);
            if self.due.is_empty() {
                self.slice(Self::heartbeat);
            }
            self.look_for_stalled();
            self.tidy();
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
    fn rests_for(&self) -> Option<Duration> {
        if self.is_stopping {
            return None;
        }
        let has_work =
            !(self.due.is_empty() && self.joining.is_empty() && self.answers.is_empty() && self.queued.is_empty());
        if has_work {
            return Some(Duration::ZERO);
        }
        let pass = self.waiting.peek().map(|Reverse((at, _))| at.saturating_duration_since(self.now));
        let stalled = (!self.blocked.is_empty()).then(|| self.stalled_look.saturating_duration_since(self.now));
        [pass, stalled, self.wheel.rests_for(self.now)].into_iter().flatten().min()
    }

    fn take_post(&mut self) {
        let post = self.door.take();
        self.joining.extend(post.joining);
        self.answers.extend(post.answers);
        for view in post.rung {
            self.rung(view);
        }
        self.is_stopping |= post.is_stopping;
        self.is_closed |= post.is_closed;
    }

    // ---- passes

    /// A tail of the view has changed.
    fn rung(&mut self, key: usize) {
        // The view may be gone, or another may have its key: then a pass in vain does no harm.
        let Some(watched) = self.views.get_mut(key) else { return };
        match &mut watched.pass {
            Pass::None if watched.rests_until <= self.now => {
                watched.pass = Pass::Due { left: None, again: false };
                self.due.push_back(key);
            }
            Pass::None => {
                watched.pass = Pass::Waiting;
                self.waiting.push(Reverse((watched.rests_until, key)));
            }
            Pass::Waiting => {}
            Pass::Due { again, .. } => *again = true,
        }
    }

    fn begin_passes(&mut self) {
        while let Some(Reverse((at, key))) = self.waiting.peek().copied()
            && at <= self.now
        {
            self.waiting.pop();
            if let Some(watched) = self.views.get_mut(key)
                && watched.pass == Pass::Waiting
            {
                watched.pass = Pass::Due { left: None, again: false };
                self.due.push_back(key);
            }
        }
    }

    /// Goes on with the pass whose turn it is.
    fn pass_on(&mut self, end: Instant) -> bool {
        let Some(key) = self.due.pop_front() else { return false };
        let Some(watched) = self.views.get_mut(key) else { return true };
        let Pass::Due { left, again } = watched.pass else { return true };
        let mut left = left.unwrap_or_else(|| {
            // In this order: a change during the look rings again.
            watched.bell.reset();
            watched.view.forget();
            watched.view.members.len()
        });
        let mut served = 0_usize;
        while left > 0 {
            // From the last to the first: whoever is removed is replaced by one that had its turn.
            let Some(watched) = self.views.get(key) else { return true };
            left = left.min(watched.view.members.len());
            let Some(member) = left.checked_sub(1).map(|last| watched.view.members[last]) else { break };
            left -= 1;
            self.drive(member as usize);
            served += 1;
            if served.is_multiple_of(BETWEEN_LOOKS) {
                self.now = Instant::now();
                if self.now >= end && left > 0 {
                    if let Some(watched) = self.views.get_mut(key) {
                        watched.pass = Pass::Due { left: Some(left), again };
                        self.due.push_back(key);
                    }
                    return true;
                }
            }
        }
        self.end_pass(key);
        true
    }

    fn end_pass(&mut self, key: usize) {
        self.now = Instant::now();
        let Some(watched) = self.views.get_mut(key) else { return };
        watched.view.forget();
        watched.rests_until = self.now + self.parts.settings.coalesce;
        let Pass::Due { again, .. } = std::mem::replace(&mut watched.pass, Pass::None) else { return };
        if again {
            self.rung(key);
        }
    }

    // ---- one stream

    /// Does for a stream what is to be done now.
    fn drive(&mut self, key: usize) {
        for _ in 0..CHUNKS_IN_A_ROW {
            let Some(subscriber) = self.subscribers.get_mut(key) else { return };
            if subscriber.is_blocked() {
                return;
            }
            let Some(watched) = self.views.get_mut(subscriber.view as usize) else { return };
            let view = &mut watched.view;
            if watched.pass == Pass::None {
                self.touched.push(subscriber.view as usize);
            }
            let turn = match subscriber.fetching() {
                None => view.next(&subscriber.standing),
                Some(_) if view.channels.len() == 1 => return,
                Some((_, fetch)) => view.next_without(&subscriber.standing, fetch.nth),
            };
            if let Some(then) = turn.then {
                subscriber.guard.behind(then.subscription.is_behind());
                subscriber.standing = then;
            }
            match turn.act {
                Act::Write(said) => {
                    if !self.say(key, &said) {
                        return;
                    }
                }
                Act::Fetch(fetch) => self.fetch(key, fetch),
                Act::Wait => return,
                Act::End => return self.end(key),
            }
        }
        self.queue(key);
    }

    /// Writes to a stream; whether it takes more.
    fn say(&mut self, key: usize, said: &Said) -> bool {
        let tick = self.wheel.tick(self.now);
        let subscriber = &mut self.subscribers[key];
        subscriber.spoke = tick;
        self.tally.0 += said.events;
        self.tally.1 += said.len();
        if let Some(reason) = said.gap {
            subscriber.guard.gap(reason);
        }
        let written = subscriber.say(said, self.now);
        self.wrote(key, &written)
    }

    /// Whether a stream takes more.
    fn wrote(&mut self, key: usize, written: &io::Result<Written>) -> bool {
        match written {
            Ok(Written::All) => return true,
            Ok(Written::Blocked) => {
                if self.blocked.is_empty() {
                    self.stalled_look = self.now + self.looks_for_stalled_every();
                }
                self.blocked.insert(key);
            }
            Err(_) => self.close(key, Closed::Client),
        }
        false
    }

    fn queue(&mut self, key: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(key)
            && !std::mem::replace(&mut subscriber.is_queued, true)
        {
            self.queued.push_back(key);
        }
    }

    /// Goes on with a stream that had more to do.
    fn go_on(&mut self, _: Instant) -> bool {
        let Some(key) = self.queued.pop_front() else { return false };
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.is_queued = false;
            self.drive(key);
        }
        true
    }

    /// Everything that is wanted was sent: says where that was, and ends the stream.
    fn end(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let mut subscription = subscriber.standing.subscription.clone();
        let told = subscription.tell().is_some();
        let mut last = Vec::new();
        if told && let Some(watched) = self.views.get_mut(subscriber.view as usize) {
            let turn = watched.view.heartbeat(&subscriber.standing);
            if let Act::Write(said) = turn.act {
                last.extend_from_slice(said.framed(subscriber.framing));
                self.tally.1 += said.len();
            }
        }
        last.extend_from_slice(subscriber.framing.terminator());
        subscriber.end();
        let written = subscriber.write(&Bytes::from(last), self.now);
        if self.wrote(key, &written) {
            self.close(key, Closed::Ended);
        }
    }

    fn close(&mut self, key: usize, reason: Closed) {
        let Some(mut subscriber) = self.subscribers.try_remove(key) else { return };
        self.blocked.remove(&key);
        let view = subscriber.view as usize;
        if let Some(watched) = self.views.get_mut(view) {
            if let Some(moved) = watched.view.remove(subscriber.place) {
                self.subscribers[moved as usize].place = subscriber.place;
            }
            if watched.view.members.is_empty() {
                let watched = self.views.remove(view);
                self.by_wishes.remove(&watched.view.wishes);
            }
        }
        // What is left unread would make the end a reset, which may overtake what was sent.
        let _ = subscriber.discard();
        let _ = subscriber.socket.shutdown(std::net::Shutdown::Write);
        self.parts.metrics.closed(reason.as_str());
    }

    fn socket_ready(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(subscriber) = self.subscribers.get_mut(key) else { return };
        let has_news = event.is_readable() || event.is_read_closed() || event.is_error();
        if has_news && let Err(reason) = subscriber.discard() {
            return self.close(key, reason);
        }
        if event.is_writable() && subscriber.is_blocked() {
            self.flush(key);
        }
    }

    /// Goes on with what was begun, and then with the rest.
    fn flush(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        match subscriber.flush(self.now) {
            Ok(Written::Blocked) => {}
            Ok(Written::All) => {
                let is_ending = subscriber.is_ending();
                self.blocked.remove(&key);
                if is_ending {
                    self.close(key, Closed::Ended);
                } else {
                    self.queue(key);
                }
            }
            Err(_) => self.close(key, Closed::Client),
        }
    }

    // ---- streams that come

    fn admit(&mut self, _: Instant) -> bool {
        let Some(joining) = self.joining.pop_front() else { return false };
        // Without a place in the event queue nothing can be done for it: it is closed and comes back.
        if let Err(error) = self.try_admit(joining) {
            tracing::warn!(%error, "a stream could not be taken over");
        }
        true
    }

    fn try_admit(&mut self, joining: Joining) -> io::Result<()> {
        let Joining { socket, framing, subscription, until, guard } = joining;
        let Detached { socket, counted } = socket;
        let mut socket = TcpStream::from_std(socket);
        let entry = self.subscribers.vacant_entry();
        let (key, small_key) = (entry.key(), small(entry.key())?);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(key), interest)?;
        let view = watch(&mut self.views, &mut self.by_wishes, &self.door, &self.parts, Wishes::of(&subscription));
        let small_view = small(view)?;
        let watched = &mut self.views[view];
        let spoke = self.wheel.tick(self.now);
        let mut subscriber =
            Subscriber::new(socket, framing, watched.view.standing(subscription), (guard, counted), spoke);
        subscriber.view = small_view;
        subscriber.place = watched.view.add(small_key);
        subscriber.due = self.wheel.due(spoke, small_key);
        self.wheel.file(small_key, subscriber.due, self.now);
        if let Some(bound) = until {
            self.ticket += 1;
            let (ticket, door, hub) = (self.ticket, self.door.clone(), self.parts.hub.clone());
            let channels = watched.view.wishes.channels.to_vec();
            let task = self.parts.runtime.spawn(async move {
                let what = Answered::Settled(settled(hub, channels, bound).await);
                door.put(|post| post.answers.push(Answer { key: small_key, ticket, what }));
            });
            subscriber.set_settling(ticket, task.abort_handle());
        }
        entry.insert(subscriber);
        self.drive(key);
        Ok(())
    }

    // ---- history

    fn fetch(&mut self, key: usize, fetch: Fetch) {
        let subscriber = &mut self.subscribers[key];
        let (Some(watched), Ok(small_key)) = (self.views.get(subscriber.view as usize), small(key)) else { return };
        let ask = Ask {
            channel: watched.view.wishes.channels[fetch.nth].clone(),
            from: fetch.from,
            events_max: subscriber.standing.subscription.page_events_max(),
            generation: fetch.generation,
        };
        self.ticket += 1;
        let ticket = self.ticket;
        subscriber.set_fetching(Some((ticket, fetch)));
        let (pages, door) = (self.parts.pages.clone(), self.door.clone());
        self.parts.runtime.spawn(async move {
            let what = Answered::Page(fetch, pages.read(ask).await);
            door.put(|post| post.answers.push(Answer { key: small_key, ticket, what }));
        });
    }

    fn take_answer(&mut self, _: Instant) -> bool {
        let Some(Answer { key, ticket, what }) = self.answers.pop_front() else { return false };
        let key = key as usize;
        // The stream may be gone, and its key another's.
        let Some(subscriber) = self.subscribers.get_mut(key) else { return true };
        let Some(watched) = self.views.get_mut(subscriber.view as usize) else { return true };
        self.touched.push(subscriber.view as usize);
        match what {
            Answered::Settled(lasts) if subscriber.take_settling(ticket) => {
                let mut subscription = subscriber.standing.subscription.clone();
                subscription.settle(&lasts);
                subscriber.standing = watched.view.standing(subscription);
            }
            Answered::Page(fetch, page) if subscriber.fetching() == Some((ticket, fetch)) => {
                subscriber.set_fetching(None);
                match page {
                    // One whose socket is full holds no page: it asks again when it has room.
                    Ok(_) if subscriber.is_blocked() => return true,
                    Ok(page) => {
                        let turn = watched.view.page(&subscriber.standing, fetch, &page);
                        if let Some(then) = turn.then {
                            subscriber.standing = then;
                        }
                        if let Act::Write(said) = turn.act
                            && !self.say(key, &said)
                        {
                            return true;
                        }
                    }
                    Err(error) => self.not_read(key, &error),
                }
            }
            _ => return true,
        }
        self.drive(key);
        true
    }

    fn not_read(&mut self, key: usize, error: &BrokerError) {
        let view = self.subscribers.get(key).map(|subscriber| subscriber.view as usize);
        if let Some(watched) = view.and_then(|view| self.views.get_mut(view))
            && matches!(error, BrokerError::Damaged(_))
            && !std::mem::replace(&mut watched.view.said_damaged, true)
        {
            tracing::error!(channels = ?watched.view.wishes.channels, %error, "subscribers cannot be served from history");
        }
    }

    // ---- time

    /// Looks at one stream that may have been silent for long.
    fn heartbeat(&mut self, _: Instant) -> bool {
        let Some((small_key, due)) = self.wheel.pop(self.now) else { return false };
        let key = small_key as usize;
        let Some(subscriber) = self.subscribers.get_mut(key) else { return true };
        if subscriber.due != due {
            return true; // of a stream that is gone, whose key another has now
        }
        let mut spoke = subscriber.spoke;
        if self.wheel.is_due(spoke, small_key, due) {
            spoke = self.wheel.tick(self.now);
            if !subscriber.is_blocked() {
                self.beat(key);
            }
        }
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.due = self.wheel.due(spoke, small_key);
            self.wheel.file(small_key, subscriber.due, self.now);
        }
        true
    }

    fn beat(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let Some(watched) = self.views.get_mut(subscriber.view as usize) else { return };
        self.touched.push(subscriber.view as usize);
        let turn = watched.view.heartbeat(&subscriber.standing);
        if let Some(then) = turn.then {
            subscriber.standing = then;
        }
        if let Act::Write(said) = turn.act {
            self.say(key, &said);
        }
    }

    /// Closes whoever took nothing for too long. It is offered the rest before, because a socket says that it has room
    /// only when it has much.
    fn look_for_stalled(&mut self) {
        if self.blocked.is_empty() || self.stalled_look > self.now {
            return;
        }
        self.stalled_look = self.now + self.looks_for_stalled_every();
        for key in self.blocked.iter().copied().collect::<Vec<_>>() {
            self.flush(key);
            let since = self.subscribers.get(key).and_then(Subscriber::blocked_since);
            if since.is_some_and(|since| self.now.duration_since(since) > self.parts.settings.write_timeout) {
                self.close(key, Closed::Stalled);
            }
        }
    }

    fn looks_for_stalled_every(&self) -> Duration {
        (self.parts.settings.write_timeout / 4).clamp(Duration::from_millis(1), STALLED_LOOKS)
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
                self.close(key, Closed::Stopping);
            }
        }
        self.tidy();
    }

    /// After every round.
    fn tidy(&mut self) {
        for view in self.touched.drain(..) {
            if let Some(watched) = self.views.get_mut(view)
                && !matches!(watched.pass, Pass::Due { left: Some(_), .. })
            {
                watched.view.forget();
            }
        }
        let (events, bytes) = std::mem::take(&mut self.tally);
        if bytes > 0 {
            self.parts.metrics.delivered(events, bytes);
        }
    }
}

/// The view of these wishes.
fn watch(
    views: &mut Slab<Watched>,
    by_wishes: &mut HashMap<Wishes, usize>,
    door: &Arc<Door>,
    parts: &Parts,
    wishes: Wishes,
) -> usize {
    if let Some(key) = by_wishes.get(&wishes) {
        return *key;
    }
    let entry = views.vacant_entry();
    let key = entry.key();
    let bell = Arc::new(ViewBell::new(door.clone(), key));
    let channels = wishes.channels.iter().map(|channel| parts.hub.join(channel)).collect();
    let view = View::new(wishes.clone(), channels);
    for channel in &view.channels {
        let listener: Arc<dyn Listener> = bell.clone();
        channel.tail.listen(Arc::downgrade(&listener));
    }
    entry.insert(Watched { view, bell, pass: Pass::None, rests_until: Instant::now() });
    by_wishes.insert(wishes, key);
    key
}

/// Keys are kept small; there are never so many descriptors that one does not fit.
fn small(key: usize) -> io::Result<u32> {
    u32::try_from(key).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
