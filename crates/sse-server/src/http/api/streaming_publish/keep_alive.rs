//! Keeps the channel of a streaming publish alive while its client is silent.
//!
//! Each time is a write to the log, and costs the client nothing. So one client gets a part of what
//! the log can take. Beyond it, the times of its publishes are late, and its channels can expire.

use std::time::Duration;

use sse_proto::Channel;
use tokio::time::{Instant, sleep_until};

use super::chain::Chain;
use crate::{
    broker::{BrokerError, lifecycle::Incarnation},
    budget::{ClientNet, Rate},
    http::{error::ApiResult, state::AppState},
};

/// The channel is kept alive this often per time to live.
const TIMES: u32 = 4;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Times per second of all publishes of one client.
const CLIENT_PER_SECOND: u32 = 500;

/// How often publishes of one client keep their channels alive; clones share it.
#[derive(Debug, Clone)]
pub struct KeepAliveRate(Rate);

impl Default for KeepAliveRate {
    fn default() -> Self {
        Self(Rate::new(CLIENT_PER_SECOND, CLIENT_PER_SECOND))
    }
}

impl KeepAliveRate {
    /// Waits until a publish of `client` may keep its channel alive. If it is cancelled, nothing is
    /// used.
    async fn wait_for_turn(&self, client: Option<ClientNet>) {
        let now = Instant::now().into_std();
        let turn = self.0.reserve(client, 1, now);
        if turn.starts_at > now {
            sleep_until(turn.starts_at.into()).await;
        }
        turn.finish(1);
    }
}

/// When the channel is kept alive.
pub(super) struct KeepAlive {
    channel: Channel,
    incarnation: Incarnation,
    client: Option<ClientNet>,
    interval: Duration,
    next: Instant,
}

impl KeepAlive {
    /// Returns `None` if the channel has no time to live.
    pub(super) async fn of(
        state: &AppState,
        chain: &Chain,
        client: Option<ClientNet>,
    ) -> ApiResult<Option<Self>> {
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
                client,
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
        state.keep_alives.wait_for_turn(keep_alive.client).await;
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_client_with_many_silent_publishes_waits_and_delays_no_other() {
        let rate = KeepAliveRate::default();
        let has_turn = |last: u8| {
            let client = IpAddr::from([192, 0, 2, last]).into();
            rate.wait_for_turn(Some(client)).now_or_never().is_some()
        };
        assert!((0..CLIENT_PER_SECOND).all(|_| has_turn(1)));
        assert!((0..1_000_000).any(|_| !has_turn(1)));
        assert!(has_turn(2));
        let of_none = rate.wait_for_turn(None);
        assert!(of_none.now_or_never().is_some());
    }
}
