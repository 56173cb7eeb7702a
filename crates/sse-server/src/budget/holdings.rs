//! What each client holds of a store that all clients share, such as the channels of the log.
//!
//! One client may hold a hundred pieces, and beyond them seven times as many as are free. So a client
//! that takes all it can get leaves an eighth, and the next one leaves an eighth of that:
//!
//! ```text
//! limit 10 000     held       free
//! client A         8 763     1 237
//! client B         1 095       142
//! ```
//!
//! What a client took counts for a window of time, after which the store can free it. The window
//! has a few slices, so nothing is recorded per taken piece.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// What a client may hold whatever is free, so that a small limit is all for the first client.
const ALWAYS: usize = 100;
/// How much a client may hold beyond that, per free piece.
const PER_FREE: usize = 7;

/// Slices of the window. What was taken counts for up to one slice longer than the window.
const SLICES: usize = 8;

/// Amounts by holder. The times that callers pass are milliseconds of one clock.
#[derive(Debug)]
pub(crate) struct Holdings<K> {
    slice_ms: u64,
    /// The current slice, counted from the beginning of the clock.
    slice: u64,
    /// What each holder took, by slice. The slice `n` is at the index `n % (SLICES + 1)`.
    holders: HashMap<K, [u32; SLICES + 1]>,
}

impl<K: Eq + Hash> Holdings<K> {
    /// Creates holdings that count for `window`.
    pub(crate) fn new(window: Duration) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self {
            slice_ms: window_ms.div_ceil(SLICES as u64).max(1),
            slice: 0,
            holders: HashMap::new(),
        }
    }

    /// Returns what a holder took within the window.
    pub(crate) fn held(&mut self, holder: &K, now_ms: u64) -> u64 {
        self.advance(now_ms);
        self.holders.get(holder).map_or(0, sum)
    }

    /// Records that a holder took `amount`.
    pub(crate) fn take(&mut self, holder: K, amount: u64, now_ms: u64) {
        self.advance(now_ms);
        let taken = &mut self.holders.entry(holder).or_default()[index(self.slice)];
        *taken = taken.saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
    }

    /// Takes back what a holder was recorded to have taken at `taken_ms`.
    pub(crate) fn take_back(&mut self, holder: &K, amount: u64, taken_ms: u64) {
        let slice = (taken_ms / self.slice_ms).min(self.slice);
        if self.slice - slice > SLICES as u64 {
            return;
        }
        if let Some(taken) = self.holders.get_mut(holder) {
            let taken = &mut taken[index(slice)];
            *taken = taken.saturating_sub(u32::try_from(amount).unwrap_or(u32::MAX));
        }
    }

    /// Returns how long it takes until something of a holder counts no more.
    pub(crate) fn time_until_release(&self, holder: &K, now_ms: u64) -> Duration {
        let taken = self.holders.get(holder);
        let first = (0..=SLICES as u64)
            .rev()
            .filter_map(|age| self.slice.checked_sub(age))
            .find(|slice| taken.is_some_and(|taken| taken[index(*slice)] > 0));
        let release = first.unwrap_or(self.slice) + SLICES as u64 + 1;
        let release_ms = release.saturating_mul(self.slice_ms);
        Duration::from_millis(release_ms.saturating_sub(now_ms))
    }

    /// Moves to the slice of `now_ms`, and forgets the slices that are older than the window.
    fn advance(&mut self, now_ms: u64) {
        let slice = now_ms / self.slice_ms;
        if slice <= self.slice {
            return;
        }
        let passed = (slice - self.slice).min(SLICES as u64 + 1);
        self.slice = slice;
        self.holders.retain(|_, taken| {
            for age in 0..passed {
                taken[index(slice - age)] = 0;
            }
            sum(taken) > 0
        });
    }
}

fn index(slice: u64) -> usize {
    usize::try_from(slice % (SLICES as u64 + 1)).unwrap_or_default()
}

fn sum(taken: &[u32; SLICES + 1]) -> u64 {
    taken.iter().map(|amount| u64::from(*amount)).sum()
}

/// Returns how much must be free so that a client that holds `held` can take `wanted` more.
pub(crate) fn free_needed(held: u64, wanted: u64) -> u64 {
    let beyond = (held + wanted).saturating_sub(ALWAYS as u64);
    beyond.div_ceil(PER_FREE as u64).max(1) + wanted.saturating_sub(1)
}

/// Returns what one client can take at once of `limit`, if everything is free.
pub(crate) const fn largest_share(limit: usize) -> usize {
    match limit.saturating_add(1).checked_sub(ALWAYS) {
        Some(beyond) if beyond > PER_FREE => ALWAYS + beyond - beyond.div_ceil(PER_FREE + 1),
        _ => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes single pieces of `limit` until the share is used up. Returns how many.
    fn take_all(holdings: &mut Holdings<u8>, client: u8, free: &mut u64) -> u64 {
        let mut taken = 0;
        while *free >= free_needed(holdings.held(&client, 0), 1) {
            holdings.take(client, 1, 0);
            *free -= 1;
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_client_leaves_an_eighth_of_what_it_finds() {
        let mut holdings = Holdings::new(Duration::from_hours(1));
        let mut free = 10_000;
        let shares = [1, 2, 3].map(|client| take_all(&mut holdings, client, &mut free));
        assert_eq!(shares, [8763, 1095, 137]);
        assert_eq!(free, 5);
    }

    #[test]
    fn a_small_limit_is_all_for_the_first_client() {
        for limit in 1..=107 {
            let mut holdings = Holdings::new(Duration::from_hours(1));
            assert_eq!(take_all(&mut holdings, 1, &mut limit.clone()), limit);
        }
    }

    #[test]
    fn the_largest_share_is_what_can_be_taken_at_once() {
        for limit in 1..2000_u64 {
            let share = largest_share(usize::try_from(limit).unwrap()) as u64;
            assert!(free_needed(0, share) <= limit, "{share} of {limit}");
            assert!(free_needed(0, share + 1) > limit, "{share} of {limit}");
        }
    }

    #[test]
    fn what_was_taken_counts_for_the_window_and_at_most_a_slice_more() {
        let mut holdings = Holdings::new(Duration::from_millis(800));
        holdings.take(1, 5, 10_050);
        holdings.take(1, 2, 10_450);
        assert_eq!(holdings.held(&1, 10_850), 7);
        assert_eq!(
            holdings.time_until_release(&1, 10_850),
            Duration::from_millis(50)
        );
        assert_eq!(holdings.held(&1, 10_900), 2);
        assert_eq!(holdings.held(&2, 10_900), 0);
        // The clock may go back.
        assert_eq!(holdings.held(&1, 9000), 2);
        assert_eq!(holdings.held(&1, 1_000_000), 0);
        assert!(holdings.holders.is_empty());
    }
}
