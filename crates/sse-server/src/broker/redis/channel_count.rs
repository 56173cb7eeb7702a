//! How many channels there are.
//!
//! A single Redis has one index of all channels, so its size is exact. A Redis Cluster has an index per
//! slot, and a node adds their sizes up from time to time: before it registers a channel, if it has
//! registered [`SHARE`] of the channels that there may be since the last time. So each node can exceed
//! the limit by a quarter of a percent.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::Cmd;

use super::{replies::parse_reply, shards::Shards, slots::Slot};
use crate::broker::BrokerError;

/// A node counts again after this part of the limit.
const SHARE: usize = 400;
/// Shortest pause between two sums, unless this node has registered channels.
const PAUSE: Duration = Duration::from_secs(1);

/// How many channels there are, as a node knows it.
#[derive(Debug)]
pub(super) struct ChannelCount {
    channels_max: usize,
    last: Mutex<Counted>,
    /// Locked while the channels of a Redis Cluster are counted.
    counting: tokio::sync::Mutex<()>,
}

/// The last sum over all slots.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    channels: usize,
    /// Channels that this node has registered since.
    added: usize,
    at: Option<Instant>,
}

impl Counted {
    const fn sum(self) -> usize {
        self.channels + self.added
    }

    /// Whether a node that registers a channel must count again.
    fn is_old(self, channels_max: usize) -> bool {
        let is_full = self.sum() >= channels_max;
        self.added >= channels_max.div_ceil(SHARE)
            || is_full && self.is_older_than(PAUSE)
            || self.at.is_none()
    }

    fn is_older_than(self, age: Duration) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= age)
    }
}

impl ChannelCount {
    pub(super) fn new(channels_max: usize) -> Self {
        Self {
            channels_max,
            last: Mutex::default(),
            counting: tokio::sync::Mutex::default(),
        }
    }

    /// Records that this node has registered a channel.
    pub(super) fn record_added(&self) {
        self.last().added += 1;
    }

    /// Returns how many channels there are beside the `indexed` ones of an index.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn elsewhere(
        &self,
        shards: &Shards,
        indexed: usize,
    ) -> Result<usize, BrokerError> {
        if !shards.is_cluster() {
            return Ok(0);
        }
        let channels_max = self.channels_max;
        let sum = self.sum(shards, |last| last.is_old(channels_max)).await?;
        Ok(sum.saturating_sub(indexed))
    }

    /// Returns how many channels there are.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn read(&self, shards: &Shards) -> Result<usize, BrokerError> {
        if shards.is_cluster() {
            return self.sum(shards, |last| last.is_older_than(PAUSE)).await;
        }
        let count = Cmd::zcard(shards.names.index(Slot::new(0)));
        let mut session = shards.slot_session(Slot::new(0)).await?;
        session.query_one(count).await
    }

    async fn sum(
        &self,
        shards: &Shards,
        is_old: impl Fn(Counted) -> bool,
    ) -> Result<usize, BrokerError> {
        if is_old(*self.last()) {
            let _counting = self.counting.lock().await;
            // Another task may have counted meanwhile.
            if is_old(*self.last()) {
                self.count(shards).await?;
            }
        }
        Ok(self.last().sum())
    }

    async fn count(&self, shards: &Shards) -> Result<(), BrokerError> {
        let added_before = self.last().added;
        let command = |slot| Cmd::zcard(shards.names.index(slot));
        let replies = shards.each_slot(command).await?;
        let is_complete = replies.len() == shards.names.slots().count();
        let sizes = replies
            .into_iter()
            .map(|(_, reply)| parse_reply::<usize>(reply));
        let sum = sizes.sum::<Result<usize, BrokerError>>()?;
        let mut last = self.last();
        // The slots of a primary that is away still have their channels.
        let sum = if is_complete {
            sum
        } else {
            sum.max(last.channels + added_before)
        };
        *last = Counted {
            channels: sum,
            added: last.added.saturating_sub(added_before),
            at: Some(Instant::now()),
        };
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Counted> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_again_after_a_part_of_the_limit_and_when_there_is_no_room() {
        let counted = |channels, added| Counted {
            channels,
            added,
            at: Some(Instant::now()),
        };
        assert!(Counted::default().is_old(1000));
        assert!(!counted(0, 2).is_old(1000));
        assert!(counted(0, 3).is_old(1000));
        // Counted a moment ago.
        assert!(!counted(1000, 0).is_old(1000));
        let then = Instant::now().checked_sub(PAUSE);
        let old = Counted {
            at: then,
            ..counted(1000, 0)
        };
        assert!(old.is_old(1000));
    }
}
