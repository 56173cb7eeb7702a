//! View: the streams of one thread that read the same channels with the same filter and envelope.
//!
//! A thousand streams at the end of the tail cost one read of the tail, one encoded chunk and one
//! pointer each, because streams at the same position share their [`SharedState`]:
//!
//! ```text
//!  stream 1 ─┐
//!  stream 2 ─┼─► state A ── next: send "18" ──► state B ── next: wait
//!  stream 3 ─┘   (at 17)                        (at 18)
//!                                               ▲     └─ heartbeat: send ":"
//!  stream 4 ────────────────────────────────────┘
//! ```
//!
//! The first stream that steps at A computes "send 18, then B" and caches it in A. The next two
//! streams find it there. Then all four streams are at B.
//!
//! A view has three caches. [`View::clear_cache`] clears all of them, before and after each pass
//! and after each round in which a stream stepped outside of a pass:
//!
//! - `recent`: the states that appeared last, to find the equal of a new subscription. After
//!   `clear_cache` the states remain that a stream still has.
//! - `caching`: the states that cache a transition. No transition remains, because a changed tail
//!   makes `next` wrong.
//! - `last_page`: the transition that the last page caused, for the other streams that wait for the
//!   same page. It does not remain, because the page holds memory of the page cache.
//!
//! Cached transitions can form a cycle of `Rc`s, for example if A's next step leads to B and B's
//! next step leads back to A. The cycle would never be freed, so `Drop` clears the caches too.

use std::{rc::Rc, sync::Arc, time::Instant};

use smallvec::SmallVec;
use sse_cli::log_throttle::LogThrottle;
use sse_proto::Channel;

use super::{
    page_cache::SharedPage,
    shared_state::{Action, EncodedChunk, SharedState, Transition},
};
use crate::{
    broker::BrokerError,
    channel::{
        Envelope, Filter, LiveChannel, MultiSubscription,
        multi::{Fetch, MultiStep},
    },
};

/// Number of states in which a new subscription looks for its equal.
const RECENT_MAX: usize = 8;
/// Number of states that may cache a transition, each of which may hold a chunk.
const CACHING_MAX: usize = 256;
/// Bytes of the chunks that these states hold, or one chunk. Streams in many states, each with a
/// large event to send, must not hold all these events at once.
const CACHED_BYTES_MAX: usize = 4 << 20;

/// What the subscriptions of a view have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ViewKey {
    pub(super) channels: SmallVec<[Channel; 1]>,
    filter: Filter,
    envelope: Envelope,
}

impl ViewKey {
    pub(super) fn of_subscription(subscription: &MultiSubscription) -> Self {
        let (filter, envelope) = subscription.filter_and_envelope();
        Self {
            channels: subscription.channels().cloned().collect(),
            filter,
            envelope,
        }
    }
}

/// All streams of one thread with the same [`ViewKey`].
#[derive(Debug)]
pub(super) struct View {
    pub(super) key: Rc<ViewKey>,
    pub(super) channels: SmallVec<[Arc<LiveChannel>; 1]>,
    /// Keys of the view's streams.
    pub(super) members: Vec<u32>,
    /// States that appeared last; the newest is at the end.
    recent: SmallVec<[Rc<SharedState>; 2]>,
    /// States that cache a transition.
    caching: SmallVec<[Rc<SharedState>; 2]>,
    /// Bytes of the chunks in these transitions.
    cached_bytes: usize,
    /// Bytes of the cached chunks that the caller of `take_uncounted_bytes` does not know.
    uncounted_bytes: usize,
    last_page: Option<Box<PageTransition>>,
    damage_log: LogThrottle,
}

/// Transition that a page caused.
#[derive(Debug)]
struct PageTransition {
    before: Rc<SharedState>,
    fetch: Fetch,
    page: SharedPage,
    transition: Transition,
}

impl View {
    pub(super) fn new(key: Rc<ViewKey>, channels: SmallVec<[Arc<LiveChannel>; 1]>) -> Self {
        Self {
            key,
            channels,
            members: Vec::new(),
            recent: SmallVec::new(),
            caching: SmallVec::new(),
            cached_bytes: 0,
            uncounted_bytes: 0,
            last_page: None,
            damage_log: LogThrottle::once(),
        }
    }

    /// Adds a stream. Returns the stream's index among the members.
    pub(super) fn add_member(&mut self, key: u32) -> u32 {
        self.members.push(key);
        u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX)
    }

    /// Removes the member at `index`.
    ///
    /// Returns the key of the stream that is at `index` now; `None` if the last member was removed.
    pub(super) fn remove_member(&mut self, index: u32) -> Option<u32> {
        self.members.swap_remove(index as usize);
        self.members.get(index as usize).copied()
    }

    /// Returns the state of `subscription`: a recent state that equals it, or a new one.
    pub(super) fn intern_state(&mut self, subscription: MultiSubscription) -> Rc<SharedState> {
        let equals = |state: &&Rc<SharedState>| state.subscription == subscription;
        if let Some(state) = self.recent.iter().rev().find(equals) {
            return state.clone();
        }
        let state = Rc::new(SharedState::new(subscription));
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(state.clone());
        state
    }

    /// Returns the next step at `state`, by the tails as they were when the step was cached.
    pub(super) fn next(&mut self, state: &Rc<SharedState>) -> Transition {
        if let Some(transition) = &state.cached.borrow().next {
            return Transition::clone(transition);
        }
        let transition = self.compute_next(state, None);
        self.add_caching(state, &transition);
        state.cached.borrow_mut().next = Some(Box::new(transition.clone()));
        transition
    }

    /// Returns the next step of the channels other than `fetching`, which waits for a page.
    ///
    /// The step is not cached: a stream that reads history seldom has company.
    pub(super) fn next_of_others(
        &mut self,
        state: &Rc<SharedState>,
        fetching: usize,
    ) -> Transition {
        self.compute_next(state, Some(fetching))
    }

    fn compute_next(&mut self, state: &SharedState, fetching: Option<usize>) -> Transition {
        let mut subscription = state.subscription.clone();
        let step = subscription.next(|nth| self.channels[nth].tail.frames(), fetching);
        let action = match step {
            MultiStep::Write(chunk) => Action::Send(Rc::new(EncodedChunk::new(chunk))),
            MultiStep::Fetch(fetch) => Action::Fetch(fetch),
            MultiStep::Wait => Action::Wait,
            MultiStep::End => Action::End,
        };
        Transition {
            action,
            next_state: self.changed_state(state, subscription),
        }
    }

    /// Returns the heartbeat at `state`, which reports the position if the client does not know it.
    pub(super) fn heartbeat(&mut self, state: &Rc<SharedState>) -> Transition {
        if let Some(transition) = &state.cached.borrow().heartbeat {
            return Transition::clone(transition);
        }
        let mut subscription = state.subscription.clone();
        let chunk = EncodedChunk::heartbeat(subscription.take_unsent_cursor());
        let transition = Transition {
            action: Action::Send(Rc::new(chunk)),
            next_state: self.changed_state(state, subscription),
        };
        self.add_caching(state, &transition);
        state.cached.borrow_mut().heartbeat = Some(Box::new(transition.clone()));
        transition
    }

    /// Returns the step that `page`, the result of `fetch`, causes at `state`.
    pub(super) fn apply_page(
        &mut self,
        state: &Rc<SharedState>,
        fetch: Fetch,
        page: &SharedPage,
    ) -> Transition {
        if let Some(last) = &self.last_page
            && Rc::ptr_eq(&last.before, state)
            && last.fetch == fetch
            && last.page.is_same(page)
        {
            return last.transition.clone();
        }
        let mut subscription = state.subscription.clone();
        let action = match subscription.apply_page(fetch, page) {
            Some(chunk) => Action::Send(Rc::new(EncodedChunk::new(chunk))),
            None => Action::Wait,
        };
        let transition = Transition {
            action,
            next_state: self.changed_state(state, subscription),
        };
        self.uncounted_bytes += transition.chunk_bytes();
        self.last_page = Some(Box::new(PageTransition {
            before: state.clone(),
            fetch,
            page: page.clone(),
            transition: transition.clone(),
        }));
        transition
    }

    /// Logs the first damage that keeps the view's streams from reading history.
    pub(super) fn log_damage(&mut self, error: &BrokerError, now: Instant) {
        if matches!(error, BrokerError::Damaged(_)) && self.damage_log.record(now).is_some() {
            let channels = &self.key.channels;
            tracing::error!(?channels, %error, "subscribers cannot be served from history");
        }
    }

    /// Returns the bytes of the chunks that were cached since the last call or `clear_cache`.
    pub(super) const fn take_uncounted_bytes(&mut self) -> usize {
        std::mem::replace(&mut self.uncounted_bytes, 0)
    }

    /// Clears the three caches.
    pub(super) fn clear_cache(&mut self) {
        for state in self.caching.drain(..) {
            state.cached.take();
        }
        (self.cached_bytes, self.uncounted_bytes) = (0, 0);
        self.last_page = None;
        // A stream never returns to an old state, so a state without a stream is useless.
        self.recent.retain(|state| Rc::strong_count(state) > 1);
        // A server can have a view per stream, so a view that is idle must be small.
        if self.recent.len() <= self.recent.inline_size() {
            self.recent.shrink_to_fit();
        }
    }

    fn changed_state(
        &mut self,
        before: &SharedState,
        after: MultiSubscription,
    ) -> Option<Rc<SharedState>> {
        (before.subscription != after).then(|| self.intern_state(after))
    }

    /// Makes room for a state that is about to cache `transition`.
    fn add_caching(&mut self, state: &Rc<SharedState>, transition: &Transition) {
        let bytes = transition.chunk_bytes();
        let is_full = self.caching.len() == CACHING_MAX;
        if is_full || self.cached_bytes.saturating_add(bytes) > CACHED_BYTES_MAX {
            self.clear_cache();
        }
        self.cached_bytes += bytes;
        self.uncounted_bytes += bytes;
        self.caching.push(state.clone());
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Break the cycles of `Rc`s that cached transitions can form.
        self.clear_cache();
    }
}

#[cfg(test)]
mod tests;
