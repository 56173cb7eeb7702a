//! Which connection is closed to make room for another one.
//!
//! The order is:
//!
//! 1. idle connections of clients that have many connections,
//! 2. connections of such clients whose heads are not complete,
//! 3. all other idle connections,
//!
//! and within each group the oldest first. Many connections can arrive while the limit is reached,
//! so one search through all connections finds the next ones as well.

use std::sync::{Arc, Weak};

use slab::Slab;

use super::{
    CloseReason, Phase,
    entry::{Entry, PhaseSince},
};
use crate::budget::ClientNet;

/// How many connections one search finds.
const SEARCH_MAX: usize = 64;

/// All clients, or the only one whose connections may be closed.
type OnlyOf = Option<Option<ClientNet>>;

/// The next connections to close.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    only_of: OnlyOf,
    /// The first one to close is the last one here.
    found: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    group: Group,
    phase: PhaseSince,
    entry: Weak<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    IdleOfLarge,
    HeadOfLarge,
    Idle,
}

impl Group {
    const fn reason(self) -> CloseReason {
        match self {
            Self::IdleOfLarge | Self::Idle => CloseReason::IdleEvicted,
            Self::HeadOfLarge => CloseReason::HeadEvicted,
        }
    }
}

impl Candidates {
    /// Asks the next connection to close; returns `false` if there is none.
    ///
    /// A client is large if it has more than this many connections.
    pub(super) fn evict_next(
        &mut self,
        entries: &Slab<Arc<Entry>>,
        only_of: OnlyOf,
        large_client: usize,
    ) -> bool {
        if self.only_of != only_of {
            self.found.clear();
            self.only_of = only_of;
        }
        if self.evict_found() {
            return true;
        }
        self.search(entries, large_client);
        self.evict_found()
    }

    /// Asks the first found connection to close that has not been used since.
    fn evict_found(&mut self) -> bool {
        while let Some(candidate) = self.found.pop() {
            // The table's entry keeps the connection, so this is not its last reference.
            if let Some(entry) = candidate.entry.upgrade()
                && entry.phase() == candidate.phase
                && entry.request_close(candidate.group.reason())
            {
                return true;
            }
        }
        false
    }

    fn search(&mut self, entries: &Slab<Arc<Entry>>, large_client: usize) {
        let candidates = entries
            .iter()
            .filter_map(|(_, entry)| candidate(entry, self.only_of, large_client));
        self.found = candidates.collect();
        let key = |candidate: &Candidate| (candidate.group, candidate.phase.since_ms());
        if self.found.len() > SEARCH_MAX {
            self.found.select_nth_unstable_by_key(SEARCH_MAX, key);
            self.found.truncate(SEARCH_MAX);
        }
        self.found
            .sort_unstable_by_key(|candidate| std::cmp::Reverse(key(candidate)));
    }
}

/// Returns the connection as a candidate, if it may be closed to make room.
fn candidate(entry: &Arc<Entry>, only_of: OnlyOf, large_client: usize) -> Option<Candidate> {
    let phase = entry.phase();
    let client = entry.client();
    // One of the reserve would make room only in the reserve, which it leaves soon.
    if entry.is_reserved() || only_of.is_some_and(|net| net != client.net()) {
        return None;
    }
    let group = match (phase.phase(), client.is_large(large_client)) {
        (Phase::Idle, true) => Group::IdleOfLarge,
        (Phase::Idle, false) => Group::Idle,
        // A client does not gain by replacing its own connections that are about to be used.
        (Phase::Head, true) if only_of.is_none() => Group::HeadOfLarge,
        _ => return None,
    };
    Some(Candidate {
        group,
        phase,
        entry: Arc::downgrade(entry),
    })
}
