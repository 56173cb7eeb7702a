//! Which pages are being read, and which are kept for the streams that come later.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use sse_proto::api::GapReason;

use super::{BYTES_MAX, InFlight, PageKey, PageResult, SharedPage};
use crate::broker::{Continuity, Page, Stored};

/// Bytes of the kept pages.
const KEPT_BYTES_MAX: usize = BYTES_MAX / 2;
/// Keep a page for 5 s instead of dropping it with its last reader. After an outage, thousands of
/// clients resume from the same position but read at different speeds. Without the cache, each slow
/// client would repeat the read.
const KEEP_TIME: Duration = Duration::from_secs(5);
/// Bytes of an event besides its text.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// The pages that are being read, and those that are kept.
#[derive(Default)]
pub(super) struct CacheState {
    pub(super) in_flight: HashMap<PageKey, InFlight>,
    pub(super) kept: HashMap<PageKey, SharedPage>,
    /// Keys of the pages that follow kept pages. A stream that asks for one of them reads on.
    pub(super) expected: HashSet<PageKey>,
    /// Kept pages with their size and age, oldest first.
    by_age: VecDeque<(PageKey, usize, Instant)>,
    kept_bytes: usize,
}

impl CacheState {
    pub(super) fn finish_read(&mut self, key: &PageKey, result: &PageResult) {
        self.in_flight.remove(key);
        if let Ok(page) = result
            && may_be_kept(page)
        {
            self.keep(key.clone(), page.clone());
        }
    }

    pub(super) fn find_kept(&mut self, key: &PageKey) -> Option<SharedPage> {
        self.discard_old();
        self.kept.get(key).cloned()
    }

    fn keep(&mut self, key: PageKey, page: SharedPage) {
        let bytes = page_bytes(&page);
        self.kept_bytes += bytes;
        self.expected.extend(key.next_page(&page));
        self.kept.insert(key.clone(), page);
        self.by_age.push_back((key, bytes, Instant::now()));
        self.discard_old();
    }

    /// Discards pages that are too old, and the oldest pages if the kept pages are too large.
    fn discard_old(&mut self) {
        while let Some((key, bytes, kept_at)) = self.by_age.front()
            && (self.kept_bytes > KEPT_BYTES_MAX || kept_at.elapsed() > KEEP_TIME)
        {
            if let Some(next_page) = self.kept.remove(key).and_then(|page| key.next_page(&page)) {
                self.expected.remove(&next_page);
            }
            self.kept_bytes -= bytes;
            self.by_age.pop_front();
        }
    }
}

/// Returns whether a page stays correct for [`KEEP_TIME`].
///
/// A page with a `lost-tail` gap does not, because the gap record may be written a moment later. A
/// page with no events does not, because an event may follow at any time. Pages of a deleted channel
/// do not either, because its name may be used again. Other gaps are permanent.
fn may_be_kept(page: &Page) -> bool {
    match page.start {
        Continuity::Contiguous => page
            .events
            .last()
            .is_some_and(|last| !last.is_end() || last.id == page.last),
        Continuity::Gap { reason, .. } => {
            !matches!(reason, GapReason::LostTail | GapReason::Deleted)
        }
    }
}

pub(super) fn page_bytes(page: &Page) -> usize {
    let text_bytes = page.events.iter().map(Stored::size).sum::<usize>();
    text_bytes + page.events.len() * EVENT_OVERHEAD_BYTES
}
