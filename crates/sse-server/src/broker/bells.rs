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
pub trait Follower: fmt::Debug + Send + Sync {
    /// The channel may have events that were not there before. It is not waited for: do no more than note it.
    fn rung(self: Arc<Self>);
}

/// Who follows which channel.
#[derive(Debug, Clone, Default)]
pub struct Bells(Arc<Mutex<HashMap<Channel, Followers>>>);

/// Mostly one: whoever feeds the channel's tail.
type Followers = SmallVec<[Weak<dyn Follower>; 1]>;

impl Bells {
    /// From now on `follower` hears of `channel`.
    pub fn follow(&self, channel: &Channel, follower: Weak<dyn Follower>) {
        self.lock()
            .entry(channel.clone())
            .or_default()
            .push(follower);
    }

    /// Forgets the followers of `channel` that are gone.
    pub fn forget_gone(&self, channel: &Channel) {
        let mut bells = self.lock();
        if let Some(followers) = bells.get_mut(channel) {
            followers.retain(|follower| follower.strong_count() > 0);
            if followers.is_empty() {
                bells.remove(channel);
            }
        }
    }

    /// Tells the followers of `channel` to look.
    pub fn ring(&self, channel: &Channel) {
        // Not under the lock: whoever is let go of here may be gone with it, and says so.
        for follower in self.followers(channel) {
            follower.rung();
        }
    }

    /// The channels that somebody follows, in no order.
    #[must_use]
    pub fn followed(&self) -> Vec<Channel> {
        self.lock().keys().cloned().collect()
    }

    fn followers(&self, channel: &Channel) -> SmallVec<[Arc<dyn Follower>; 1]> {
        self.lock()
            .get(channel)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Followers>> {
        // No code panics while it holds this lock, and a map of bells is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
