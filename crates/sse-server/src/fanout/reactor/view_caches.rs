//! The caches of views whose streams step outside of a pass.
//!
//! A pass clears the cache of its view itself. All other caches are cleared at the end of the round,
//! or earlier if they hold many bytes.

use super::{Pass, Reactor};

/// Bytes of the chunks that views cache between passes, or one chunk. Streams of many views, each
/// with a large event to send, must not hold all these events at once.
const CACHED_BYTES_MAX: usize = 4 << 20;

impl Reactor<'_> {
    /// Records that the caches of a view were used outside of a pass.
    pub(super) fn record_use(&mut self, view: usize) {
        self.used_views.push(view);
        if let Some(watched) = self.views.get_mut(view) {
            self.cached_bytes += watched.view.take_uncounted_bytes();
        }
        if self.cached_bytes > CACHED_BYTES_MAX {
            self.clear_used_views();
        }
    }

    /// Clears the caches that were used since the last call.
    pub(super) fn clear_used_views(&mut self) {
        self.cached_bytes = 0;
        for view in self.used_views.drain(..) {
            if let Some(watched) = self.views.get_mut(view)
                && !matches!(watched.pass, Pass::Due { left: Some(_), .. })
            {
                watched.view.clear_cache();
            }
        }
    }
}
