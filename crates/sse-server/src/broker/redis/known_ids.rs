//! The ids that a node knows of a channel, for finding lost events after a reconnect.
//!
//! Five kinds of id are kept, from old to new:
//!
//! ```text
//!  channel ───────────────────────────────────────────────────────────────────────────────►
//!     │            │              │                │               │             │
//!  verified_id  stable_id   next_stable_id    unverified[0]   unverified[1]   newest
//!     │            │              │                │               │             │
//!     │            │              │                │               │     seen last on this
//!     │            │              │                │               │     connection
//!     │            │              │           each was the newest when an earlier connection
//!     │            │              │           ended, and it may be lost
//!     │            │         becomes stable when it is 10 s old
//!     │       was the newest at least 10 s ago, so probably every replica has it
//!  found present by the last verification, or the first id that was seen
//! ```
//!
//! Example: events 0 to 45 arrive, one per second, and then the connection ends. Id 45 is now
//! unverified; the older ids are 39 (next stable), 29 (stable) and 0 (verified). If the next
//! connection leads to a replica without event 45, those three show where the loss began.
//!
//! Each unverified id is judged by itself, because Redis may have lost its end between any two of
//! them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use smallvec::SmallVec;
use sse_proto::{Channel, EventId};

/// Minimum age at which an id becomes stable.
const STABLE_AGE: Duration = Duration::from_secs(10);

/// Unverified ids per channel.
const UNVERIFIED_MAX: usize = 8;

/// An id, and when this node saw it acknowledged or read.
#[derive(Debug, Clone, Copy)]
struct SeenId {
    id: EventId,
    at: Instant,
}

/// What a node knows of one channel; see the [module](self).
#[derive(Debug, Clone)]
pub(super) struct KnownIds {
    newest: SeenId,
    /// The oldest first.
    unverified: SmallVec<[SeenId; 1]>,
    verified_id: EventId,
    stable_id: EventId,
    next_stable_id: SeenId,
    /// The era of the slot up to which the newest id was marked as unverified.
    era: u64,
    /// The era in which Redis could not verify an id.
    tried: Option<u64>,
}

/// An id that may be lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnverifiedId {
    pub(super) id: EventId,
    /// When the id was acknowledged or read.
    pub(super) since: Instant,
    /// Older ids that are known, the newest first; `0-0` where there is none.
    pub(super) older: [EventId; 3],
}

impl KnownIds {
    /// A channel of which `id` is the first id that was seen.
    ///
    /// `era` is the present one.
    pub(super) fn new(id: EventId, at: Instant, era: u64) -> Self {
        let seen = SeenId { id, at };
        Self {
            newest: seen,
            unverified: SmallVec::new(),
            verified_id: id,
            stable_id: id,
            next_stable_id: seen,
            era,
            tried: None,
        }
    }

    /// Marks the newest id as unverified if an era has ended since. `era` is the present one.
    pub(super) fn enter_era(&mut self, era: u64) {
        if self.era != era {
            self.era = era;
            self.mark_newest_unverified();
        }
    }

    /// Whether ids must be verified before the channel is used. Ids that Redis could not verify in
    /// this era do not keep the channel from being used.
    pub(super) fn needs_verification(&self) -> bool {
        !self.unverified.is_empty() && self.tried != Some(self.era)
    }

    /// Whether any id is unverified.
    pub(super) fn is_unverified(&self) -> bool {
        !self.unverified.is_empty()
    }

    /// Records that Redis was asked to verify all unverified ids.
    pub(super) const fn record_attempt(&mut self) {
        self.tried = Some(self.era);
    }

    /// Records that `id` was acknowledged or read.
    pub(super) fn observe(&mut self, id: EventId, at: Instant) {
        if id <= self.newest.id {
            return;
        }
        self.update_stable_ids(at);
        self.newest = SeenId { id, at };
    }

    /// Makes the next stable id stable if it is old enough; the newest id is then the next one.
    fn update_stable_ids(&mut self, at: Instant) {
        if at.duration_since(self.next_stable_id.at) >= STABLE_AGE {
            self.stable_id = self.next_stable_id.id;
            self.next_stable_id = SeenId {
                id: self.newest.id,
                at,
            };
        }
    }

    /// Records that `id`, which was seen at `at`, may be lost.
    pub(super) fn mark_unverified(&mut self, id: EventId, at: Instant) {
        let Err(index) = self.find_unverified(id) else {
            return;
        };
        self.unverified.insert(index, SeenId { id, at });
        self.limit_unverified();
    }

    fn limit_unverified(&mut self) {
        if self.unverified.len() > UNVERIFIED_MAX {
            // The oldest and the newest id stay. A loss that contains only the id removed here is
            // found by other nodes.
            self.unverified.remove(1);
        }
    }

    /// Records that the newest id may be lost.
    pub(super) fn mark_newest_unverified(&mut self) {
        self.mark_unverified(self.newest.id, self.newest.at);
    }

    /// Records that `id` needs no further verification; returns whether it was unverified.
    pub(super) fn remove_unverified(&mut self, id: EventId) -> bool {
        let index = self.find_unverified(id);
        if let Ok(index) = index {
            self.unverified.remove(index);
        }
        index.is_ok()
    }

    /// Records that a verification found `id` in its stream.
    pub(super) const fn set_verified(&mut self, id: EventId) {
        self.verified_id = id;
    }

    /// The ids to verify, each with the older ids that are known.
    pub(super) fn unverified_ids(&self) -> impl Iterator<Item = UnverifiedId> {
        self.unverified.iter().map(|seen| UnverifiedId {
            id: seen.id,
            since: seen.at,
            older: self.older_than(seen.id),
        })
    }

    fn older_than(&self, id: EventId) -> [EventId; 3] {
        let mut older = self.stable_ids().map(|known| zero_unless_older(known, id));
        older.sort_unstable();
        older.reverse();
        older
    }

    /// The ids that probably survive a loss.
    const fn stable_ids(&self) -> [EventId; 3] {
        [self.next_stable_id.id, self.stable_id, self.verified_id]
    }

    /// Whether the newest id is above `median`, or an id is unverified.
    fn is_needed(&self, median: EventId) -> bool {
        self.newest.id > median || !self.unverified.is_empty()
    }

    /// The index of an unverified id, or where it would be inserted.
    fn find_unverified(&self, id: EventId) -> Result<usize, usize> {
        self.unverified.binary_search_by_key(&id, |seen| seen.id)
    }
}

/// Forgets the half of the channels that was quiet for longest, but none with an unverified id.
pub(super) fn forget_quiet_half(channels: &mut HashMap<Channel, KnownIds>) {
    if let Some(median) = median(newest_ids(channels)) {
        channels.retain(|_, known| known.is_needed(median));
    }
}

fn newest_ids(channels: &HashMap<Channel, KnownIds>) -> Vec<EventId> {
    channels.values().map(|known| known.newest.id).collect()
}

/// Returns `None` if there are no ids.
fn median(mut ids: Vec<EventId>) -> Option<EventId> {
    let middle = ids.len() / 2;
    (!ids.is_empty()).then(|| *ids.select_nth_unstable(middle).1)
}

fn zero_unless_older(known: EventId, id: EventId) -> EventId {
    if known < id { known } else { EventId::ZERO }
}

#[cfg(test)]
impl KnownIds {
    pub(super) const fn newest_id(&self) -> EventId {
        self.newest.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        EventId::new(number, 0)
    }

    fn unverified(known: &KnownIds) -> Vec<u64> {
        known
            .unverified_ids()
            .map(|unverified| unverified.id.ms)
            .collect()
    }

    #[test]
    fn older_ids_are_known_too() {
        let start = Instant::now();
        let mut known = KnownIds::new(id(0), start, 0);
        for second in 1..=45 {
            known.observe(id(second), start + Duration::from_secs(second));
        }
        known.mark_newest_unverified();
        assert_eq!(
            known.unverified_ids().next().unwrap().older,
            [id(39), id(29), id(0)]
        );
    }

    #[test]
    fn an_older_id_does_not_replace_the_newest() {
        let now = Instant::now();
        let mut known = KnownIds::new(id(5), now, 0);
        known.observe(id(4), now);
        assert_eq!(known.newest_id(), id(5));
        // No known id is older than this one.
        known.mark_unverified(id(4), now);
        assert_eq!(
            known.unverified_ids().next().unwrap().older,
            [EventId::ZERO; 3]
        );
    }

    #[test]
    fn unverified_ids_are_sorted_unique_and_limited() {
        let now = Instant::now();
        let mut known = KnownIds::new(id(1), now, 0);
        for number in [3, 1, 2, 3] {
            known.mark_unverified(id(number), now);
        }
        assert_eq!(unverified(&known), [1, 2, 3]);
        for number in 4..100 {
            known.mark_unverified(id(number), now);
        }
        assert_eq!(unverified(&known), [1, 93, 94, 95, 96, 97, 98, 99]);
        assert!(known.remove_unverified(id(93)) && !known.remove_unverified(id(93)));
        assert_eq!(unverified(&known).len(), 7);
    }

    #[test]
    fn the_quiet_half_is_forgotten_except_for_unverified_channels() {
        let now = Instant::now();
        let mut channels: HashMap<Channel, KnownIds> = (1..=10)
            .map(|number| {
                let channel = format!("c{number}").parse().unwrap();
                (channel, KnownIds::new(id(number), now, 0))
            })
            .collect();
        let quietest: Channel = "c1".parse().unwrap();
        channels
            .get_mut(&quietest)
            .unwrap()
            .mark_newest_unverified();
        forget_quiet_half(&mut channels);
        let mut left: Vec<u64> = channels
            .values()
            .map(|known| known.newest_id().ms)
            .collect();
        left.sort_unstable();
        assert_eq!(left, [1, 7, 8, 9, 10]);
        forget_quiet_half(&mut HashMap::new());
    }
}
