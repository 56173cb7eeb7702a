//! How many entries a read asks Redis for.
//!
//! `XRANGE` limits entries but not bytes, and the size of entries is not known before they arrive.
//! A read therefore asks for as many entries as would fill a page if they were as large as the
//! largest entry of the previous read of the channel, and for at most four times as many as that
//! read:
//!
//! ```text
//! small events    8 → 32 → 128 → 512 entries
//! 1 MiB events    8 → as many as fit in a page
//! ```

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sse_proto::Channel;

use crate::broker::{PageLimits, Stored};

/// Fewest entries that a read asks for, unless the page may have fewer.
const ENTRIES_MIN: usize = 8;

/// Most entries that a read asks for.
const ENTRIES_MAX: usize = 512;

/// Growth from one read of a channel to the next.
const GROWTH_MAX: usize = 4;

/// What the previous read of each channel shows about the next one.
#[derive(Debug, Default)]
pub(super) struct PageSizes {
    previous: Mutex<HashMap<Channel, PreviousRead>>,
}

#[derive(Debug, Clone, Copy)]
struct PreviousRead {
    /// Entries that the read asked for.
    entries: usize,
    /// Bytes of its largest entry.
    largest: usize,
}

impl PreviousRead {
    /// Summarises a read of `page`; returns `None` if `entries` is empty.
    fn new(page: PageLimits, entries: &[Stored]) -> Option<Self> {
        let largest = sizes(entries).max()?;
        Some(Self {
            entries: page.events_max,
            largest,
        })
    }

    /// Entries that the next read asks for, if its page has at most `bytes_max` bytes.
    fn next_entries(self, bytes_max: usize) -> usize {
        let by_size = bytes_max / self.largest.max(1);
        let by_growth = self.entries.saturating_mul(GROWTH_MAX);
        by_size.min(by_growth).clamp(ENTRIES_MIN, ENTRIES_MAX)
    }
}

impl PageSizes {
    /// Returns the limits of the next page of `channel`: those of `limits`, or fewer entries.
    pub(super) fn next_page(&self, channel: &Channel, limits: PageLimits) -> PageLimits {
        let entries = self.next_entries(channel, limits.bytes_max);
        PageLimits {
            events_max: entries.min(limits.events_max),
            ..limits
        }
    }

    fn next_entries(&self, channel: &Channel, bytes_max: usize) -> usize {
        let all = self.previous();
        let previous = all.get(channel);
        previous.map_or(ENTRIES_MIN, |previous| previous.next_entries(bytes_max))
    }

    /// Forgets the previous read of `channel`.
    ///
    /// A read calls this before it sends its commands: a read that fails because its reply is too
    /// large must not be repeated with the same size for ever.
    pub(super) fn forget(&self, channel: &Channel) {
        self.previous().remove(channel);
    }

    /// Forgets the previous read of every channel.
    pub(super) fn forget_all(&self) {
        self.previous().clear();
    }

    /// Records a read that asked for `page` and returned `entries`.
    pub(super) fn record(&self, channel: &Channel, page: PageLimits, entries: &[Stored]) {
        if let Some(read) = PreviousRead::new(page, entries) {
            self.previous().insert(channel.clone(), read);
        }
    }

    fn previous(&self) -> MutexGuard<'_, HashMap<Channel, PreviousRead>> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sizes(entries: &[Stored]) -> impl Iterator<Item = usize> {
    entries.iter().map(Stored::size)
}

/// Cuts `entries` down to a page; returns whether entries were cut off.
pub(super) fn truncate_to_page(entries: &mut Vec<Stored>, limits: PageLimits) -> bool {
    let fit = limits.fit(sizes(entries));
    let is_cut = entries.len() > fit;
    entries.truncate(fit);
    is_cut
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;

    fn entry(bytes: usize) -> Stored {
        Stored {
            id: EventId::ZERO,
            kind: "x".into(),
            data: "y".repeat(bytes - 1).into(),
        }
    }

    const LIMITS: PageLimits = PageLimits {
        events_max: 1000,
        bytes_max: 64 * 1024,
    };

    #[test]
    fn pages_of_small_events_grow_fourfold_up_to_the_limit() {
        let sizes = PageSizes::default();
        let channel: Channel = "orders".parse().unwrap();
        for expected in [8, 32, 128, 512, 512] {
            let page = sizes.next_page(&channel, LIMITS);
            assert_eq!(page.events_max, expected);
            sizes.record(&channel, page, &[entry(10)]);
        }
        let few = PageLimits {
            events_max: 3,
            ..LIMITS
        };
        assert_eq!(sizes.next_page(&channel, few).events_max, 3);
        sizes.forget(&channel);
        assert_eq!(sizes.next_page(&channel, LIMITS).events_max, 8);
    }

    #[test]
    fn the_largest_event_limits_the_next_page() {
        let sizes = PageSizes::default();
        let channel: Channel = "orders".parse().unwrap();
        sizes.record(&channel, LIMITS, &[entry(10), entry(1024), entry(10)]);
        assert_eq!(sizes.next_page(&channel, LIMITS).events_max, 64);
        sizes.record(&channel, LIMITS, &[]);
        assert_eq!(sizes.next_page(&channel, LIMITS).events_max, 64);
        sizes.forget_all();
        assert_eq!(sizes.next_page(&channel, LIMITS).events_max, 8);
    }

    #[test]
    fn a_page_is_cut_at_its_limits_and_has_at_least_one_event() {
        let limits = PageLimits {
            events_max: 2,
            bytes_max: 10,
        };
        for (bytes, left, is_cut) in [
            (&[5, 5, 5][..], 2, true),
            (&[5, 6], 1, true),
            (&[50], 1, false),
            (&[], 0, false),
        ] {
            let mut entries = bytes.iter().map(|bytes| entry(*bytes)).collect();
            assert_eq!(truncate_to_page(&mut entries, limits), is_cut);
            assert_eq!(entries.len(), left);
        }
    }
}
