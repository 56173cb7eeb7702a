//! A subscription as an HTTP response body: the driver for a socket that actix owns.
//!
//! It does what the subscription says, and what that must not know: reads pages, waits, sends heartbeats on an idle
//! stream, ends it at a block's end when the server stops. A body that is not polled, because the socket is full,
//! does nothing and holds at most one chunk.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::body::{BodyStream, MessageBody};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, future::BoxFuture, stream};
use sse_proto::{Position, wire};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{BrokerError, From, Page, PageLimits},
    channel::{Hub, LiveChannel, Start, Step, Subscription},
    metrics::SubscriberGuard,
};

/// One read of history for one subscriber: with the fields around the data it makes about one chunk.
const PAGE_LIMITS: PageLimits = PageLimits { events_max: 256, bytes_max: 48 << 10 };
/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long the opening waits for the broker to say where "now" is.
const HEAD_WITHIN: Duration = Duration::from_millis(500);
/// How far the clocks of this machine and of the log may be apart.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(2);

/// What every stream of a server shares.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Silence after which a comment is sent.
    pub heartbeat: Duration,
    /// How long a subscriber should wait before it reconnects.
    pub retry: Duration,
}

/// Finds out where "now" is in a channel. With the broker away it is as late as surely loses nothing.
pub async fn now(hub: &Hub, channel: &sse_proto::Channel) -> Start {
    if let Ok(Ok(head)) = timeout(HEAD_WITHIN, hub.broker().head(channel)).await {
        return Start::Claimed(Position::After(head));
    }
    let live = hub.join(channel);
    let frames = live.tail.frames();
    if frames.is_joined() {
        return Start::Claimed(Position::After(frames.end()));
    }
    // By the clock, then, so that what comes when the broker is back is not missed.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCK_SKEW_MAX);
    Start::Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// The body of a stream.
pub fn stream_body(
    hub: Hub,
    channel: sse_proto::Channel,
    subscription: Subscription,
    opening_position: Option<Position>,
    settings: StreamSettings,
    guard: SubscriberGuard,
    stopping: CancellationToken,
) -> impl MessageBody + use<> {
    let live = hub.join(&channel);
    let mut opening = BytesMut::new();
    wire::opening(&mut opening, settings.retry, opening_position, &format!("channel {channel}"));
    let driver = Driver {
        changed: live.tail.watch(),
        live,
        hub,
        channel,
        subscription,
        opening: Some(opening.freeze()),
        fetching: None,
        settings,
        guard,
        stopping,
        spoke: Instant::now(),
    };
    BodyStream::new(stream::unfold(driver, |mut driver| async move {
        let bytes = driver.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), driver))
    }))
}

struct Driver {
    hub: Hub,
    channel: sse_proto::Channel,
    live: Arc<LiveChannel>,
    changed: watch::Receiver<()>,
    subscription: Subscription,
    opening: Option<Bytes>,
    /// A read of history that is under way. A heartbeat does not start it again.
    fetching: Option<Fetching>,
    settings: StreamSettings,
    guard: SubscriberGuard,
    stopping: CancellationToken,
    /// When something was last sent.
    spoke: Instant,
}

struct Fetching {
    from: From,
    /// Of the tail when the page was asked for.
    generation: u64,
    page: BoxFuture<'static, Page>,
}

impl Driver {
    /// The next bytes to send, never empty; none at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(self.speak(opening, 0));
        }
        let stopping = self.stopping.clone();
        let heartbeat_due = self.spoke + self.settings.heartbeat;
        tokio::select! {
            biased;
            () = stopping.cancelled() => None,
            (bytes, events) = self.advance() => Some(self.speak(bytes, events)),
            () = sleep_until(heartbeat_due) => Some(self.heartbeat()),
        }
    }

    /// What the subscription has to say next. Dropped half-way, it goes on where it was.
    async fn advance(&mut self) -> (Bytes, usize) {
        loop {
            if let Some(fetching) = &mut self.fetching {
                let page = fetching.page.as_mut().await;
                let (from, generation) = (fetching.from, fetching.generation);
                self.fetching = None;
                if let Some(chunk) = self.subscription.page(from, &page, generation) {
                    if let Some(reason) = chunk.gap {
                        self.guard.gap(reason);
                    }
                    return (chunk.bytes, chunk.events);
                }
            }
            // Marked as seen before looking: a change during the look wakes the wait below.
            self.changed.borrow_and_update();
            let (step, generation) = {
                let frames = self.live.tail.frames();
                let step = self.subscription.next(&frames);
                self.guard.behind(self.subscription.is_behind(&frames));
                (step, frames.generation())
            };
            match step {
                Step::Write(chunk) => return (chunk.bytes, chunk.events),
                Step::Fetch(from) => {
                    let page = fetch(self.hub.clone(), self.channel.clone(), from).boxed();
                    self.fetching = Some(Fetching { from, generation, page });
                }
                Step::Wait => {
                    if self.subscription.is_untold()
                        && let Some(position) = self.subscription.tell()
                    {
                        return (heartbeat(Some(position)), 0);
                    }
                    if self.changed.changed().await.is_err() {
                        // The sender lives in `live`, which is ours.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    fn heartbeat(&mut self) -> Bytes {
        let moved_to = self.subscription.tell();
        self.speak(heartbeat(moved_to), 0)
    }

    fn speak(&mut self, bytes: Bytes, events: usize) -> Bytes {
        self.spoke = Instant::now();
        self.guard.delivered(events, bytes.len());
        bytes
    }
}

/// Reads until the broker answers: with the broker away the stream stays open.
async fn fetch(hub: Hub, channel: sse_proto::Channel, from: From) -> Page {
    let mut said = false;
    loop {
        match hub.broker().read(&channel, from, PAGE_LIMITS).await {
            Ok(page) => return page,
            Err(error @ BrokerError::Damaged(_)) if !said => {
                said = true;
                tracing::error!(%channel, %error, "a subscriber cannot be served from history");
            }
            Err(_) => {}
        }
        sleep(RETRY_AFTER).await;
    }
}

fn heartbeat(moved_to: Option<Position>) -> Bytes {
    let mut bytes = BytesMut::new();
    wire::heartbeat(&mut bytes, moved_to);
    bytes.freeze()
}
