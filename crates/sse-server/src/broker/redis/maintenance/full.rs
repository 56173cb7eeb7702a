//! Forgets dead channels, but only while seven eighths of the channels that there may be are registered.
//! A client that returns to a forgotten channel gets a gap.
//!
//! Only quiet channels can be dead, and each slot has them in the order in which they became quiet.

use std::time::{Duration, Instant};

use redis::Cmd;

use super::{
    Maintainer, QUIET,
    visit::{Visit, parse_channels},
};
use crate::{
    broker::{
        BrokerError,
        redis::{
            slots::{SLOTS, Slot},
            streams::Streams,
        },
    },
    budget::largest_share,
};

/// Quiet channels of one slot that are visited in one go.
const PER_SLOT: isize = 16;
/// Slots whose quiet channels are read in one pipeline.
const BATCH: usize = 128;
/// Shortest pause between two searches for dead channels.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Where the next search for dead channels begins, and when.
#[derive(Debug, Default)]
pub(super) struct ForgetCursor {
    slot: u16,
    not_before: Option<Instant>,
}

impl Maintainer {
    /// Forgets dead channels if there is too little room for new ones.
    pub(super) async fn forget_dead(&mut self, streams: &Streams) -> Result<(), BrokerError> {
        let now = Instant::now();
        if self.forget.not_before.is_some_and(|at| now < at) || !self.leases.holds_any() {
            return Ok(());
        }
        self.forget.not_before = Some(now + INTERVAL_MIN);
        let registered = streams.count_channels().await?;
        let mut to_forget = channels_to_forget(registered, streams.retention.channels_max);
        let mut slots_left = usize::from(SLOTS);
        while to_forget > 0 && slots_left > 0 {
            slots_left = slots_left.saturating_sub(BATCH);
            let slots = self.next_to_search();
            let quiet = slots.iter();
            let quiet = quiet.map(|slot| (*slot, quiet_command(streams, *slot)));
            let channels = parse_channels(streams.query_slots(quiet).await?);
            let visit = Visit {
                may_expire: false,
                may_forget: true,
            };
            let forgotten = self.visit_channels(streams, &channels, visit).await?;
            to_forget = to_forget.saturating_sub(forgotten);
        }
        Ok(())
    }

    fn next_to_search(&mut self) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let slot = Slot::new(self.forget.slot);
            self.forget.slot = (self.forget.slot + 1) % SLOTS;
            if self.leases.holds(slot) {
                slots.push(slot);
            }
        }
        slots
    }
}

fn quiet_command(streams: &Streams, slot: Slot) -> Cmd {
    Cmd::zrangebyscore_limit(streams.names.due(slot), QUIET, "+inf", 0, PER_SLOT)
}

/// How many dead channels a search forgets: enough to make room for a tenth of the limit, so that
/// not every search forgets a few.
///
/// A single client may have created all channels. It can fill seven eighths of the limit, and a
/// node does not know how many of them are dead when it creates a channel.
const fn channels_to_forget(registered: usize, channels_max: usize) -> usize {
    match registered.checked_sub(largest_share(channels_max)) {
        Some(excess) => excess + channels_max.div_ceil(10),
        None => 0,
    }
}

impl Streams {
    /// How many channels are registered.
    pub(super) async fn count_channels(&self) -> Result<usize, BrokerError> {
        self.registry.count_channels(&self.shards).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_forgets_channels_once_one_client_can_create_no_more_and_then_makes_room() {
        assert_eq!(channels_to_forget(187, 200), 0);
        assert_eq!(channels_to_forget(188, 200), 20);
        assert_eq!(channels_to_forget(205, 200), 37);
        assert_eq!(channels_to_forget(1, 1), 1);
        assert_eq!(channels_to_forget(2, 3), 0);
    }
}
