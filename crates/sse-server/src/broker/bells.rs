//! Wake-ups by channel: who follows a channel hears that it has new events.
//!
//! A bell says only "look": it carries no event, so a lost order between bell and read cannot lose one. One ring is
//! kept for a follower that is not waiting at the moment; more rings before it looks are one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;
use sse_proto::Channel;
use tokio::sync::Notify;

/// The bells of all followed channels.
#[derive(Debug, Clone, Default)]
pub struct Bells(Arc<Mutex<HashMap<Channel, Followers>>>);

/// Mostly one: the feed of the channel's tail.
type Followers = SmallVec<[Arc<Notify>; 1]>;

impl Bells {
    /// A bell on `channel`.
    #[must_use]
    pub fn follow(&self, channel: &Channel) -> Bell {
        let rung = Arc::new(Notify::new());
        self.lock().entry(channel.clone()).or_default().push(rung.clone());
        Bell { channel: channel.clone(), rung, bells: self.clone() }
    }

    /// Tells the followers of `channel` to look.
    pub fn ring(&self, channel: &Channel) {
        for bell in self.lock().get(channel).into_iter().flatten() {
            bell.notify_one();
        }
    }

    /// The channels that somebody follows, in no order.
    #[must_use]
    pub fn followed(&self) -> Vec<Channel> {
        self.lock().keys().cloned().collect()
    }

    /// Whether somebody follows `channel`.
    #[must_use]
    pub fn is_followed(&self, channel: &Channel) -> bool {
        self.lock().contains_key(channel)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Followers>> {
        // No code panics while it holds this lock, and a map of bells is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One follower's bell; dropping it ends the following.
#[derive(Debug)]
pub struct Bell {
    channel: Channel,
    rung: Arc<Notify>,
    bells: Bells,
}

impl Bell {
    /// Waits until the channel may have events that were not there when this last returned.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut bells = self.bells.lock();
        if let Some(followers) = bells.get_mut(&self.channel) {
            followers.retain(|other| !Arc::ptr_eq(other, &self.rung));
            if followers.is_empty() {
                bells.remove(&self.channel);
            }
        }
    }
}
