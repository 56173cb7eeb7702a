//! Which pub/sub channels a node is subscribed to, and how that differs from what it follows.
//!
//! Only the difference is sent to Redis. A change of one channel costs the same with one followed
//! channel as with thousands, and a channel without followers is unsubscribed at once:
//!
//! ```text
//! followed   a b c d        to subscribe    d
//! subscribed a b c   e      to unsubscribe  e
//! ```

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sse_proto::Channel;
use tokio::sync::Notify;

use super::{slots::Slot, topology::Ownership};
use crate::broker::notify::ChangeNotifier;

/// Channels per command.
const BATCH: usize = 128;

/// The subscriptions of a node at one primary, to the channels that the primary has.
#[derive(Debug)]
pub(super) struct Subscriptions {
    notifier: ChangeNotifier,
    /// `None` if the primary has all channels.
    owned: Option<Ownership>,
    difference: Mutex<Difference>,
    changed: Notify,
}

/// The difference between the followed and the subscribed channels.
#[derive(Debug, Default)]
struct Difference {
    /// The channels for which the present connection was sent a `SUBSCRIBE`.
    subscribed: HashSet<Channel>,
    to_subscribe: HashSet<Channel>,
    to_unsubscribe: HashSet<Channel>,
}

/// The next changes to send, a bounded number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeBatch {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
}

impl Subscriptions {
    /// Subscribes to what is followed according to `notifier`.
    pub(super) fn new(notifier: ChangeNotifier, owned: Option<Ownership>) -> Self {
        Self {
            notifier,
            owned,
            difference: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The followers of `channel` or its primary may have changed.
    pub(super) fn update(&self, channel: &Channel) {
        let mut difference = self.difference();
        // Asked under the lock, so that the last of several updates knows the final answer.
        let is_followed = self.has(channel) && self.notifier.is_followed(channel);
        if difference.update(channel, is_followed) {
            self.changed.notify_one();
        }
    }

    /// Begins a new connection, which has no subscription.
    pub(super) fn restart(&self) {
        let mut difference = self.difference();
        *difference = Difference {
            to_subscribe: self.followed().collect(),
            ..Difference::default()
        };
        self.changed.notify_one();
    }

    fn followed(&self) -> impl Iterator<Item = Channel> {
        let followed = self.notifier.followed().into_iter();
        followed.filter(|channel| self.has(channel))
    }

    fn has(&self, channel: &Channel) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.has(channel))
    }

    /// Records that Redis has ended the subscription of `channel`, or has refused it. Returns true if
    /// this was not asked for.
    pub(super) fn record_end(&self, channel: &Channel) -> bool {
        self.difference().subscribed.remove(channel)
    }

    /// Records that Redis has refused subscriptions in `slot`, because the slot has moved.
    pub(super) fn record_moved(&self, slot: Slot) {
        let Some(owned) = &self.owned else { return };
        let mut difference = self.difference();
        let is_elsewhere = |channel: &Channel| owned.names.slot(channel) == slot;
        difference
            .subscribed
            .retain(|channel| !is_elsewhere(channel));
        difference
            .to_unsubscribe
            .retain(|channel| !is_elsewhere(channel));
    }

    /// Waits until there are changes to send. The future may be dropped at any time.
    pub(super) async fn wait_for_changes(&self) {
        while self.difference().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Takes changes to send. A connection on which sending fails must be given up.
    pub(super) fn take_batch(&self) -> ChangeBatch {
        self.difference().take_batch()
    }

    fn difference(&self) -> MutexGuard<'_, Difference> {
        // No code panics while it holds this lock.
        self.difference
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Difference {
    /// Updates what must be sent for `channel`. Returns whether anything must be.
    fn update(&mut self, channel: &Channel, is_followed: bool) -> bool {
        let is_subscribed = self.subscribed.contains(channel);
        set_member(
            &mut self.to_subscribe,
            channel,
            is_followed && !is_subscribed,
        );
        set_member(
            &mut self.to_unsubscribe,
            channel,
            !is_followed && is_subscribed,
        );
        is_followed != is_subscribed
    }

    fn is_empty(&self) -> bool {
        self.to_subscribe.is_empty() && self.to_unsubscribe.is_empty()
    }

    fn take_batch(&mut self) -> ChangeBatch {
        let batch = ChangeBatch {
            subscribe: take_some(&mut self.to_subscribe),
            unsubscribe: take_some(&mut self.to_unsubscribe),
        };
        self.subscribed.extend(batch.subscribe.iter().cloned());
        for channel in &batch.unsubscribe {
            self.subscribed.remove(channel);
        }
        batch
    }
}

fn set_member(channels: &mut HashSet<Channel>, channel: &Channel, is_member: bool) {
    if !is_member {
        channels.remove(channel);
    } else if !channels.contains(channel) {
        channels.insert(channel.clone());
    }
}

/// Takes up to [`BATCH`] channels out of `channels`.
fn take_some(channels: &mut HashSet<Channel>) -> Vec<Channel> {
    let some: Vec<Channel> = channels.iter().take(BATCH).cloned().collect();
    for channel in &some {
        channels.remove(channel);
    }
    // A set keeps its memory, and iterating over it takes as long as when it was full.
    if channels.len() < channels.capacity() / 8 {
        channels.shrink_to(channels.len() * 2);
    }
    some
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use super::*;
    use crate::broker::notify::Watcher;

    #[derive(Debug)]
    struct TestWatcher;

    impl Watcher for TestWatcher {
        fn changed(self: Arc<Self>) {}
    }

    fn channel(number: usize) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    fn follow(subscriptions: &Subscriptions, channel: &Channel) -> Arc<dyn Watcher> {
        let follower: Arc<dyn Watcher> = Arc::new(TestWatcher);
        let weak: Weak<dyn Watcher> = Arc::downgrade(&follower);
        subscriptions.notifier.follow(channel, weak);
        subscriptions.update(channel);
        follower
    }

    fn unfollow(subscriptions: &Subscriptions, channel: &Channel, follower: Arc<dyn Watcher>) {
        drop(follower);
        subscriptions.notifier.remove_dropped(channel);
        subscriptions.update(channel);
    }

    fn batch(subscribe: &[Channel], unsubscribe: &[Channel]) -> ChangeBatch {
        ChangeBatch {
            subscribe: subscribe.to_vec(),
            unsubscribe: unsubscribe.to_vec(),
        }
    }

    #[test]
    fn only_what_differs_is_sent() {
        let subscriptions = Subscriptions::new(ChangeNotifier::default(), None);
        let (a, b) = (channel(1), channel(2));
        let first = follow(&subscriptions, &a);
        let second = follow(&subscriptions, &a);
        let third = follow(&subscriptions, &b);
        unfollow(&subscriptions, &b, third);
        assert_eq!(
            subscriptions.take_batch(),
            batch(std::slice::from_ref(&a), &[])
        );
        unfollow(&subscriptions, &a, first);
        assert_eq!(subscriptions.take_batch(), ChangeBatch::default());
        unfollow(&subscriptions, &a, second);
        assert_eq!(
            subscriptions.take_batch(),
            batch(&[], std::slice::from_ref(&a))
        );
        let again = follow(&subscriptions, &a);
        unfollow(&subscriptions, &a, again);
        assert!(subscriptions.difference().is_empty());
    }

    #[test]
    fn a_new_connection_subscribes_to_everything_that_is_followed() {
        let subscriptions = Subscriptions::new(ChangeNotifier::default(), None);
        let (a, b) = (channel(1), channel(2));
        let (_follower, other) = (follow(&subscriptions, &a), follow(&subscriptions, &b));
        subscriptions.take_batch();
        unfollow(&subscriptions, &b, other);
        subscriptions.restart();
        assert_eq!(subscriptions.take_batch(), batch(&[a], &[]));
        assert!(subscriptions.difference().is_empty());
    }

    #[tokio::test]
    async fn many_changes_are_sent_in_batches_and_leave_no_memory_behind() {
        let subscriptions = Subscriptions::new(ChangeNotifier::default(), None);
        let channels: Vec<Channel> = (0..1000).map(channel).collect();
        let followers: Vec<_> = channels
            .iter()
            .map(|channel| follow(&subscriptions, channel))
            .collect();
        let mut sent = HashSet::new();
        while sent.len() < channels.len() {
            subscriptions.wait_for_changes().await;
            let batch = subscriptions.take_batch();
            assert!(batch.subscribe.len() <= BATCH);
            sent.extend(batch.subscribe);
        }
        let difference = subscriptions.difference();
        assert!(difference.is_empty() && difference.to_subscribe.capacity() < 100);
        drop(difference);
        drop(followers);
    }
}
