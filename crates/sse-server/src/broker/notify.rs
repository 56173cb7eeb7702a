//! Wake-ups by channel: who follows a channel hears that it has new events.
//!
//! A ring says only "look": it carries no event, so a lost order between ring and read cannot lose one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use smallvec::SmallVec;
use sse_proto::Channel;

/// Somebody who follows a channel.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// The channel may have events that were not there before. It is not waited for: do no more than note it.
    fn changed(self: Arc<Self>);
}

/// Who follows which channel.
#[derive(Debug, Clone, Default)]
pub struct ChangeNotifier(Arc<Mutex<HashMap<Channel, Watchers>>>);

/// Mostly one: whoever feeds the channel's tail.
type Watchers = SmallVec<[Weak<dyn Watcher>; 1]>;

impl ChangeNotifier {
    /// From now on `watcher` hears of `channel`.
    pub fn follow(&self, channel: &Channel, watcher: Weak<dyn Watcher>) {
        self.lock()
            .entry(channel.clone())
            .or_default()
            .push(watcher);
    }

    /// Forgets the followers of `channel` that are gone.
    pub fn remove_dropped(&self, channel: &Channel) {
        let mut notifier = self.lock();
        if let Some(watchers) = notifier.get_mut(channel) {
            watchers.retain(|watcher| watcher.strong_count() > 0);
            if watchers.is_empty() {
                notifier.remove(channel);
            }
        }
    }

    /// Tells the followers of `channel` to look.
    pub fn notify(&self, channel: &Channel) {
        // Not under the lock: whoever is let go of here may be gone with it, and says so.
        for watcher in self.watchers(channel) {
            watcher.changed();
        }
    }

    /// The channels that somebody follows, in no order.
    #[must_use]
    pub fn followed(&self) -> Vec<Channel> {
        self.lock().keys().cloned().collect()
    }

    fn watchers(&self, channel: &Channel) -> SmallVec<[Arc<dyn Watcher>; 1]> {
        self.lock()
            .get(channel)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Watchers>> {
        // No code panics while it holds this lock, and a map of bells is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
