//! Keeps the channel of a streaming publish alive while its client is silent.

use std::time::Duration;

use sse_proto::Channel;
use tokio::time::{Instant, sleep_until};

use super::chain::Chain;
use crate::{
    broker::{BrokerError, lifecycle::Incarnation},
    http::{error::ApiResult, state::AppState},
};

/// The channel is kept alive this often per time to live.
const TIMES: u32 = 4;
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// When the channel is kept alive.
pub(super) struct KeepAlive {
    channel: Channel,
    incarnation: Incarnation,
    interval: Duration,
    next: Instant,
}

impl KeepAlive {
    /// Returns `None` if the channel has no time to live.
    pub(super) async fn of(state: &AppState, chain: &Chain) -> ApiResult<Option<Self>> {
        let target = chain.target(false);
        let broker = state.hub.broker();
        let description = broker.describe(&target.channel).await?;
        let (Some(description), Some(incarnation)) = (description, target.incarnation) else {
            return Ok(None);
        };
        let effective = broker.effective(&target.channel, description.settings);
        Ok(effective.settings.ttl_ms.map(|ttl_ms| {
            let interval = (Duration::from_millis(ttl_ms) / TIMES).max(INTERVAL_MIN);
            Self {
                channel: target.channel,
                incarnation,
                interval,
                next: Instant::now() + interval,
            }
        }))
    }

    /// Waits for the next time, and keeps the channel alive then. Waits for ever without a time to
    /// live.
    ///
    /// # Errors
    ///
    /// `ChannelDeleted`: the incarnation does not exist any more. Any other error of the log is left to
    /// the next group.
    pub(super) async fn next(keep_alive: Option<&mut Self>, state: &AppState) -> ApiResult<()> {
        let Some(keep_alive) = keep_alive else {
            return std::future::pending().await;
        };
        sleep_until(keep_alive.next).await;
        keep_alive.next = Instant::now() + keep_alive.interval;
        let broker = state.hub.broker();
        let kept = broker
            .keep_alive(&keep_alive.channel, keep_alive.incarnation)
            .await;
        match kept {
            Err(error @ BrokerError::ChannelDeleted) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
