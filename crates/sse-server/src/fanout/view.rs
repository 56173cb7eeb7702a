//! What subscribers have in common: the channels they read and what they want of them, and, for all that stand at the
//! same place, the very same state and the very same bytes.
//!
//! A [`SharedState`] is a subscription's whole state, which never changes: a step leads from one to another. What a step
//! writes is worked out for the first subscriber that takes it; the others find it there. So a thousand subscribers at
//! the end of the tail cost one look at it, one chunk, and a pointer each.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;
use sse_proto::{Channel, api::GapReason, wire};

use super::page_cache::SharedPage;
use crate::channel::{
    Chunk, Envelope, Filter, LiveChannel, MultiSubscription,
    multi::{Fetch, MultiStep},
};

/// Among so many standings a new one is looked for before it is one of its own.
const RECENT_MAX: usize = 8;
/// What is worked out and remembered at a time: each may hold a chunk.
const CACHED_MAX: usize = 256;

/// The channels and the wishes by which subscribers are in one view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ViewKey {
    pub(super) channels: SmallVec<[Channel; 1]>,
    filter: Filter,
    envelope: Envelope,
}

impl ViewKey {
    pub(super) fn of(subscription: &MultiSubscription) -> Self {
        let (filter, envelope) = subscription.filter_and_envelope();
        Self {
            channels: subscription.channels().cloned().collect(),
            filter,
            envelope,
        }
    }
}

/// How a chunk goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As a chunk of HTTP/1.1 (RFC 9112 §7.1).
    Chunked,
    /// As it is: HTTP/1.0, until the connection closes.
    Plain,
}

impl Framing {
    /// What ends the body.
    pub(super) const fn terminator(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Plain => b"",
        }
    }
}

/// Bytes that many are sent.
#[derive(Debug)]
pub(super) struct EncodedChunk {
    pub(super) events: usize,
    pub(super) gap: Option<GapReason>,
    plain: Bytes,
    chunked: Bytes,
}

impl EncodedChunk {
    fn new(chunk: Chunk) -> Self {
        let Chunk { bytes, events, gap } = chunk;
        Self {
            events,
            gap,
            chunked: chunked(&bytes),
            plain: bytes,
        }
    }

    fn heartbeat(position: Option<impl std::fmt::Display>) -> Self {
        let mut bytes = BytesMut::new();
        wire::heartbeat(&mut bytes, position);
        Self::new(Chunk {
            bytes: bytes.freeze(),
            events: 0,
            gap: None,
        })
    }

    pub(super) fn framed(&self, framing: Framing) -> &Bytes {
        match framing {
            Framing::Chunked => &self.chunked,
            Framing::Plain => &self.plain,
        }
    }

    /// How many bytes of the stream there are.
    pub(super) fn len(&self) -> usize {
        self.plain.len()
    }
}

fn chunked(bytes: &[u8]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(bytes.len() + 16);
    chunk.put_slice(format!("{:X}\r\n", bytes.len()).as_bytes());
    chunk.put_slice(bytes);
    chunk.put_slice(b"\r\n");
    chunk.freeze()
}

/// What a subscriber does next.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Write(Rc<EncodedChunk>),
    Fetch(Fetch),
    Wait,
    End,
}

/// One step of a subscriber: what it does, and where it stands then.
#[derive(Debug, Clone)]
pub(super) struct Transition {
    pub(super) action: Action,
    /// None if it stays where it is.
    pub(super) next_state: Option<Rc<SharedState>>,
}

/// Where a subscriber stands.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) subscription: MultiSubscription,
    transitions: RefCell<CachedTransitions>,
}

/// What was worked out for a standing, and may be asked for again.
#[derive(Debug, Default)]
struct CachedTransitions {
    next: Option<Box<Transition>>,
    heartbeat: Option<Box<Transition>>,
}

impl SharedState {
    fn new(subscription: MultiSubscription) -> Self {
        Self {
            subscription,
            transitions: RefCell::default(),
        }
    }
}

/// All subscribers of one thread that read the same channels and want the same of them.
#[derive(Debug)]
pub(super) struct View {
    pub(super) view_key: Rc<ViewKey>,
    pub(super) channels: SmallVec<[Arc<LiveChannel>; 1]>,
    /// Their keys.
    pub(super) members: Vec<u32>,
    /// The newest last.
    recent: SmallVec<[Rc<SharedState>; 2]>,
    /// Those that remember a turn.
    cached: SmallVec<[Rc<SharedState>; 2]>,
    page: Option<Box<PageTransition>>,
    pub(super) said_damaged: bool,
}

/// What a page became for the last one that it was for.
#[derive(Debug)]
struct PageTransition {
    before: Rc<SharedState>,
    fetch: Fetch,
    page: SharedPage,
    transition: Transition,
}

impl View {
    pub(super) fn new(view_key: Rc<ViewKey>, channels: SmallVec<[Arc<LiveChannel>; 1]>) -> Self {
        Self {
            view_key,
            channels,
            members: Vec::new(),
            recent: SmallVec::new(),
            cached: SmallVec::new(),
            page: None,
            said_damaged: false,
        }
    }

    /// Adds a member; returns its place among them.
    pub(super) fn add(&mut self, key: u32) -> u32 {
        self.members.push(key);
        u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX)
    }

    /// Removes the member at `place`; returns the one that is there now.
    pub(super) fn remove(&mut self, place: u32) -> Option<u32> {
        self.members.swap_remove(place as usize);
        self.members.get(place as usize).copied()
    }

    /// The standing of a subscription, shared with whoever stood there lately.
    pub(super) fn intern_state(&mut self, subscription: MultiSubscription) -> Rc<SharedState> {
        if let Some(found) = self
            .recent
            .iter()
            .rev()
            .find(|recent| recent.subscription == subscription)
        {
            return found.clone();
        }
        let state = Rc::new(SharedState::new(subscription));
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(state.clone());
        state
    }

    /// What comes next at this standing, by the tails as they are, or were when it was last asked.
    pub(super) fn next(&mut self, state: &Rc<SharedState>) -> Transition {
        if let Some(transition) = &state.transitions.borrow().next {
            return Transition::clone(transition);
        }
        let transition = self.step(state, None);
        state.transitions.borrow_mut().next = Some(Box::new(transition.clone()));
        self.cache(state);
        transition
    }

    /// What comes next while a page is on its way for one of the channels.
    pub(super) fn next_without(&mut self, state: &Rc<SharedState>, busy: usize) -> Transition {
        self.step(state, Some(busy))
    }

    fn step(&mut self, state: &Rc<SharedState>, busy: Option<usize>) -> Transition {
        let mut subscription = state.subscription.clone();
        let step = subscription.next(|nth| self.channels[nth].tail.frames(), busy);
        let action = match step {
            MultiStep::Write(chunk) => Action::Write(Rc::new(EncodedChunk::new(chunk))),
            MultiStep::Fetch(fetch) => Action::Fetch(fetch),
            MultiStep::Wait => Action::Wait,
            MultiStep::End => Action::End,
        };
        Transition {
            action,
            next_state: self.moved(state, subscription),
        }
    }

    /// The heartbeat for this standing, which tells the position if the subscriber does not know it.
    pub(super) fn heartbeat(&mut self, state: &Rc<SharedState>) -> Transition {
        if let Some(transition) = &state.transitions.borrow().heartbeat {
            return Transition::clone(transition);
        }
        let mut subscription = state.subscription.clone();
        let said = EncodedChunk::heartbeat(subscription.take_unsent_cursor());
        let transition = Transition {
            action: Action::Write(Rc::new(said)),
            next_state: self.moved(state, subscription),
        };
        state.transitions.borrow_mut().heartbeat = Some(Box::new(transition.clone()));
        self.cache(state);
        transition
    }

    /// What the page that this standing asked for makes of it.
    pub(super) fn page(
        &mut self,
        state: &Rc<SharedState>,
        fetch: Fetch,
        page: &SharedPage,
    ) -> Transition {
        if let Some(last) = &self.page
            && Rc::ptr_eq(&last.before, state)
            && last.fetch == fetch
            && last.page.is(page)
        {
            return last.transition.clone();
        }
        let mut subscription = state.subscription.clone();
        let action = match subscription.apply_page(fetch, page) {
            Some(chunk) => Action::Write(Rc::new(EncodedChunk::new(chunk))),
            None => Action::Wait,
        };
        let transition = Transition {
            action,
            next_state: self.moved(state, subscription),
        };
        let turned = PageTransition {
            before: state.clone(),
            fetch,
            page: page.clone(),
            transition: transition.clone(),
        };
        self.page = Some(Box::new(turned));
        transition
    }

    /// Lets go of everything that was worked out: the tails have changed since, or nobody needs it for now.
    pub(super) fn forget(&mut self) {
        for state in self.cached.drain(..) {
            state.transitions.take();
        }
        self.page = None;
        // Where nobody stands any more nobody comes back to.
        self.recent.retain(|state| Rc::strong_count(state) > 1);
        // Channels with one or two streams may be very many.
        if self.recent.len() <= self.recent.inline_size() {
            self.recent.shrink_to_fit();
        }
    }

    fn moved(&mut self, from: &SharedState, to: MultiSubscription) -> Option<Rc<SharedState>> {
        (from.subscription != to).then(|| self.intern_state(to))
    }

    fn cache(&mut self, state: &Rc<SharedState>) {
        self.cached.push(state.clone());
        if self.cached.len() > CACHED_MAX {
            self.forget();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // What is remembered may lead in a circle.
        self.forget();
    }
}
