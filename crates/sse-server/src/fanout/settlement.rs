//! Waits for the end of a stream with `until`.
//!
//! A stream may end once the broker guarantees that no event up to `until` can still appear, in any
//! of its channels. A fan-out thread runs the wait as a task; an attached stream polls it.

use std::{ops::RangeInclusive, time::Duration};

use sse_proto::{Channel, EventId};
use tokio::time::sleep;

use super::start::{ChannelEnd, check_end};
use crate::{
    channel::{Hub, Settlement},
    retry::{RETRY_INTERVAL, retry_until_ok},
};

/// Pause between two readings of the log's clock. The clock may be set while the stream waits, so
/// the pause is limited even if `until` is far away.
const CLOCK_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_mins(1);

/// Waits until no event up to `bound` can appear any more in any of `channels`.
///
/// Returns how each channel ends at `bound`, in the order of `channels`.
pub(super) async fn wait_until_settled(
    hub: Hub,
    channels: Vec<Channel>,
    bound: EventId,
) -> Vec<Settlement> {
    let mut settlements = Vec::with_capacity(channels.len());
    for channel in &channels {
        settlements.push(wait_for_channel(&hub, channel, bound).await);
    }
    settlements
}

async fn wait_for_channel(hub: &Hub, channel: &Channel, bound: EventId) -> Settlement {
    loop {
        let attempt = || check_end(hub.broker(), channel, bound);
        match retry_until_ok(RETRY_INTERVAL, attempt).await {
            ChannelEnd::Settled(settlement) => return settlement,
            ChannelEnd::OpenFor(wait) => {
                sleep(wait.clamp(*CLOCK_INTERVAL.start(), *CLOCK_INTERVAL.end())).await;
            }
        }
    }
}
