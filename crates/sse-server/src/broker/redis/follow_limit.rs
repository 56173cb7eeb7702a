//! How many channels a node follows at a time.
//!
//! A followed channel costs a subscription in Redis, lookups, and memory for its tail. A few bytes
//! of a request name 32 of them, so their number has a limit, of which one client gets a part. The
//! client that opens the first stream of a channel pays for the channel, until its last stream on
//! this node ends.

use crate::{
    budget::{Budget, ClientNet, Share},
    metrics::Metrics,
};

/// A client may use this part of the limit.
const CLIENT_PART: usize = 4;

/// The limit; clones share it.
#[derive(Debug, Clone)]
pub(super) struct FollowLimit {
    channels: Budget,
    metrics: Metrics,
}

impl FollowLimit {
    /// Allows `channels_max` channels.
    pub(super) fn new(channels_max: usize, metrics: Metrics) -> Self {
        let client_max = channels_max.div_ceil(CLIENT_PART);
        Self {
            channels: Budget::new(channels_max, client_max),
            metrics,
        }
    }

    /// Allows one more channel on behalf of `client`; returns `None` at the limit.
    pub(super) fn try_acquire(&self, client: Option<ClientNet>) -> Option<FollowPermit> {
        let share = self.channels.try_acquire(client, 1)?;
        self.metrics.channel_followed();
        Some(FollowPermit {
            _share: share,
            metrics: self.metrics.clone(),
        })
    }
}

/// The right to follow one channel.
#[derive(Debug)]
pub(crate) struct FollowPermit {
    _share: Share,
    metrics: Metrics,
}

impl Drop for FollowPermit {
    fn drop(&mut self) {
        self.metrics.channel_unfollowed();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn a_client_gets_a_part_of_the_limit_and_all_clients_together_the_limit() {
        let limit = FollowLimit::new(10, Metrics::new());
        let follow = |last| {
            let address: IpAddr = Ipv4Addr::new(192, 0, 2, last).into();
            limit.try_acquire(Some(address.into()))
        };
        let held: Vec<FollowPermit> = (0..5).filter_map(|_| follow(1)).collect();
        assert_eq!(held.len(), 3);
        let others: Vec<FollowPermit> = (0..20).filter_map(follow).collect();
        assert_eq!(others.len(), 7);
        drop(held);
        assert!(follow(1).is_some());
    }
}
