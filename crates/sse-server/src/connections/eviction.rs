//! Which connection is closed to make room for another one.
//!
//! The order is:
//!
//! 1. connections whose client is unknown, because the header of a proxy has not arrived,
//! 2. idle connections of clients that have many connections,
//! 3. connections of such clients whose heads are not complete,
//! 4. all other idle connections,
//!
//! and within each group the oldest first. Many connections can arrive while the limit is reached,
//! so one search through all connections finds the next ones as well, and a search that found
//! nothing is not repeated for a while.

use std::sync::{Arc, Weak};

use slab::Slab;

use super::{
    CloseReason, Phase,
    entry::{Entry, PhaseSince},
};
use crate::budget::ClientNet;

/// How many connections one search finds.
const SEARCH_MAX: usize = 64;
/// Time from a search that found nothing to the next one, and from one client's to another's.
const SEARCH_PAUSE_MS: u64 = 10;

/// All clients, or the only one whose connections may be closed.
type OnlyOf = Option<Option<ClientNet>>;

/// The next connections to close.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    of_all: Found,
    /// Those of the client that was searched last, for clients that make room themselves. Apart
    /// from the others, so that such a client cannot delay the search for another one.
    of_one: Found,
}

/// What a search has found.
#[derive(Debug, Default)]
struct Found {
    only_of: OnlyOf,
    /// The first one to close is the last one here.
    candidates: Vec<Candidate>,
    /// Whether the last search found no connection.
    is_fruitless: bool,
    /// Until then, a search would find nothing either, or serves another client.
    pause_until_ms: u64,
}

/// The connections that may be closed.
pub(super) struct Connections<'a> {
    pub(super) entries: &'a Slab<Arc<Entry>>,
    /// A client is large if it has more than this many of them.
    pub(super) large_client: usize,
    /// Milliseconds since the table was created.
    pub(super) now_ms: u64,
}

#[derive(Debug)]
struct Candidate {
    group: Group,
    phase: PhaseSince,
    entry: Weak<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// A proxy sends its header at once.
    Unnamed,
    IdleOfLarge,
    HeadOfLarge,
    Idle,
}

impl Group {
    const fn reason(self) -> CloseReason {
        match self {
            Self::IdleOfLarge | Self::Idle => CloseReason::IdleEvicted,
            Self::Unnamed | Self::HeadOfLarge => CloseReason::HeadEvicted,
        }
    }
}

impl Candidates {
    /// Asks the next connection to close; returns `false` if there is none, or if it may only be
    /// found after a pause.
    pub(super) fn evict_next(&mut self, connections: &Connections<'_>, only_of: OnlyOf) -> bool {
        let found = match only_of {
            None => &mut self.of_all,
            Some(_) => &mut self.of_one,
        };
        found.evict_next(connections, only_of)
    }
}

impl Found {
    fn evict_next(&mut self, connections: &Connections<'_>, only_of: OnlyOf) -> bool {
        let is_known = self.only_of == only_of;
        if is_known && self.evict_found() {
            return true;
        }
        if connections.now_ms < self.pause_until_ms && (self.is_fruitless || !is_known) {
            return false;
        }
        self.search(connections, only_of);
        self.evict_found()
    }

    /// Asks the first found connection to close that has not been used since.
    fn evict_found(&mut self) -> bool {
        while let Some(candidate) = self.candidates.pop() {
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

    fn search(&mut self, connections: &Connections<'_>, only_of: OnlyOf) {
        let candidates = connections
            .entries
            .iter()
            .filter_map(|(_, entry)| candidate(entry, only_of, connections.large_client));
        self.candidates = candidates.collect();
        let key = |candidate: &Candidate| (candidate.group, candidate.phase.since_ms());
        if self.candidates.len() > SEARCH_MAX {
            self.candidates.select_nth_unstable_by_key(SEARCH_MAX, key);
            self.candidates.truncate(SEARCH_MAX);
        }
        self.candidates
            .sort_unstable_by_key(|candidate| std::cmp::Reverse(key(candidate)));
        self.only_of = only_of;
        self.is_fruitless = self.candidates.is_empty();
        self.pause_until_ms = connections.now_ms + SEARCH_PAUSE_MS;
    }
}

/// Returns the connection as a candidate, if it may be closed to make room.
fn candidate(entry: &Arc<Entry>, only_of: OnlyOf, large_client: usize) -> Option<Candidate> {
    let phase = entry.phase();
    let client = entry.client();
    let is_unnamed = phase.phase() == Phase::ProxyHeader;
    let is_of_another = only_of.is_some_and(|net| net != client.net());
    // One of the reserve would make room only in the reserve, which it leaves soon.
    if entry.is_reserved() || (is_of_another && !is_unnamed) {
        return None;
    }
    let group = match (phase.phase(), client.is_large(large_client)) {
        (Phase::ProxyHeader, _) => Group::Unnamed,
        (Phase::Idle, true) => Group::IdleOfLarge,
        (Phase::Idle, false) => Group::Idle,
        // A client does not gain by replacing its own connections that are about to be used.
        (Phase::Head | Phase::Handshake, true) if only_of.is_none() => Group::HeadOfLarge,
        _ => return None,
    };
    Some(Candidate {
        group,
        phase,
        entry: Arc::downgrade(entry),
    })
}
