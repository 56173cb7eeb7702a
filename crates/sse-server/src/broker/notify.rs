//! Notifies the watchers of a channel that it may have new events.
//!
//! A notification carries no event. The watcher reads the log itself, so a notification that
//! overtakes or repeats another one cannot lose or duplicate an event.
//!
//! An in-process log also hands over what it has committed. The watcher takes a group that
//! continues what it has, and reads the log otherwise.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use smallvec::SmallVec;
use sse_proto::Channel;

use super::CommittedGroup;

/// A watcher of a channel, such as the feed of its tail.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// The channel may have new events.
    ///
    /// The notifier waits for this call: record the change, and do the work elsewhere.
    fn changed(self: Arc<Self>);

    /// The channel has these new events.
    ///
    /// Groups can arrive in another order than that of their commits. The notifier waits for this
    /// call, which must not wait for a client or for the log.
    fn committed(self: Arc<Self>, group: &CommittedGroup<'_>) {
        let _ = group;
        self.changed();
    }
}

/// The watchers of all channels. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ChangeNotifier(Arc<Mutex<HashMap<Channel, Watchers>>>);

/// The watchers of one channel. There is mostly one: the feed of the channel's tail.
type Watchers = SmallVec<[Weak<dyn Watcher>; 1]>;

impl ChangeNotifier {
    /// Notifies `watcher` of changes of `channel` from now on, until the watcher is dropped.
    pub fn follow(&self, channel: &Channel, watcher: Weak<dyn Watcher>) {
        self.lock()
            .entry(channel.clone())
            .or_default()
            .push(watcher);
    }

    /// Removes the watchers of `channel` that were dropped.
    pub fn remove_dropped(&self, channel: &Channel) {
        let mut watchers_by_channel = self.lock();
        if watchers_by_channel
            .get_mut(channel)
            .is_some_and(remove_dropped_watchers)
        {
            watchers_by_channel.remove(channel);
        }
    }

    /// Notifies the watchers of `channel`.
    pub fn notify(&self, channel: &Channel) {
        // Call the watchers without the lock. This may hold the last reference to a watcher, and
        // dropping it calls `remove_dropped`.
        for watcher in self.watchers(channel) {
            watcher.changed();
        }
    }

    /// Hands a committed group over to the watchers of `channel`.
    pub fn hand_over(&self, channel: &Channel, group: &CommittedGroup<'_>) {
        for watcher in self.watchers(channel) {
            watcher.committed(group);
        }
    }

    /// Notifies the watchers of all channels.
    pub fn notify_all(&self) {
        for channel in self.followed() {
            self.notify(&channel);
        }
    }

    /// Returns whether `channel` has watchers.
    #[must_use]
    pub fn is_followed(&self, channel: &Channel) -> bool {
        self.lock().contains_key(channel)
    }

    /// Returns the channels that have watchers, in no order.
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
        // No code panics while it holds this lock, and the map is valid after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the watchers that were dropped. Returns true if none is left.
fn remove_dropped_watchers(watchers: &mut Watchers) -> bool {
    watchers.retain(|watcher| watcher.strong_count() > 0);
    watchers.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl Watcher for Counter {
        fn changed(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_watcher_is_notified_of_its_channel_until_it_is_dropped() {
        let (notifier, watcher) = (ChangeNotifier::default(), Arc::new(Counter::default()));
        let (orders, users): (Channel, Channel) =
            ("orders".parse().unwrap(), "users".parse().unwrap());
        let weak: Weak<Counter> = Arc::downgrade(&watcher);
        notifier.follow(&orders, weak);
        notifier.notify(&orders);
        notifier.notify(&users);
        assert_eq!(watcher.0.load(Relaxed), 1);
        assert_eq!(notifier.followed(), std::slice::from_ref(&orders));
        drop(watcher);
        notifier.notify(&orders);
        notifier.remove_dropped(&orders);
        assert_eq!(notifier.followed(), []);
    }
}
