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
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sse_proto::Channel;

use crate::broker::{PageLimits, Stored};

/// Entries that a read asks for, unless the page may have fewer.
const ENTRIES_PER_READ: RangeInclusive<usize> = 8..=512;

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

impl PageSizes {
    /// Returns the limits of the next page of `channel`: those of `limits`, or fewer entries.
    pub(super) fn next_page(&self, channel: &Channel, limits: PageLimits) -> PageLimits {
        let (least, most) = (*ENTRIES_PER_READ.start(), *ENTRIES_PER_READ.end());
        let fitting = self.previous().get(channel).map_or(least, |previous| {
            let by_size = limits.bytes_max / previous.largest.max(1);
            by_size.min(previous.entries.saturating_mul(GROWTH_MAX))
        });
        PageLimits {
            events_max: fitting.clamp(least, most).min(limits.events_max),
            ..limits
        }
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
        if let Some(largest) = entries.iter().map(Stored::size).max() {
            let read = PreviousRead {
                entries: page.events_max,
                largest,
            };
            self.previous().insert(channel.clone(), read);
        }
    }

    fn previous(&self) -> MutexGuard<'_, HashMap<Channel, PreviousRead>> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts `entries` down to a page; returns whether entries were cut off.
pub(super) fn truncate_to_page(entries: &mut Vec<Stored>, limits: PageLimits) -> bool {
    let fit = limits.fit(entries.iter().map(Stored::size));
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
