//! The connection to one sentinel that receives its announcements.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt as _;
use redis::Msg;
use tokio::time::interval;

use super::{
    Sentinels,
    events::{CHANNELS, SentinelEvent, parse_event},
    pause,
};
use crate::broker::redis::{backoff::with_timeout, dial::Dialer, target::ServerAddress};

const PING_INTERVAL: Duration = Duration::from_secs(2);
const REPLY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Receives the announcements of the sentinel at `address`, for ever.
pub(in crate::broker::redis) async fn watch_sentinel(
    sentinels: Arc<Sentinels>,
    dialer: Dialer,
    address: ServerAddress,
) {
    loop {
        let Err(why) = receive(&sentinels, &dialer, &address).await;
        tracing::debug!(%address, why, "no announcements of a sentinel");
        pause().await;
    }
}

/// Receives announcements until the connection breaks; the error is why, in words.
async fn receive(
    sentinels: &Sentinels,
    dialer: &Dialer,
    address: &ServerAddress,
) -> Result<Infallible, String> {
    let pubsub = with_timeout(REPLY_TIMEOUT, dialer.open_sentinel_pubsub(address)).await?;
    let (mut sink, mut messages) = pubsub.split();
    with_timeout(REPLY_TIMEOUT, sink.subscribe(&CHANNELS)).await?;
    // Announcements before the subscription were missed.
    sentinels.apply(SentinelEvent::Changed);
    let mut ping_timer = interval(PING_INTERVAL);
    loop {
        tokio::select! {
            message = messages.next() => announce(sentinels, &message.ok_or("closed")?),
            _ = ping_timer.tick() => {
                with_timeout(REPLY_TIMEOUT, sink.ping::<redis::Value>()).await?;
            }
        }
    }
}

fn announce(sentinels: &Sentinels, message: &Msg) {
    let payload = String::from_utf8_lossy(message.get_payload_bytes());
    let event = parse_event(message.get_channel_name(), &payload, &sentinels.primary);
    if let Some(event) = event {
        tracing::debug!(?event, "a sentinel announced a change");
        sentinels.apply(event);
    }
}
