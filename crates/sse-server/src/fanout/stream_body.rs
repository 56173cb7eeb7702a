//! A subscription as an HTTP response body: how every stream begins, and the driver for a socket that stays with actix.
//!
//! It does what the subscription says, and what that must not know: reads pages, waits, sends heartbeats on an idle
//! stream, asks the log's clock when there is a time to end, and ends the stream at a block's end. A body that is not
//! polled, because the socket is full, does nothing and holds at most one chunk.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use actix_web::body::{BodyStream, MessageBody};
use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt as _,
    future::{BoxFuture, select_all},
    poll, stream,
};
use smallvec::SmallVec;
use sse_proto::{Channel, EventId, wire};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Framing,
    detach::Connection,
    page_cache::{PageCache, PageKey, SharedPage},
    start::{ChannelEnd, NewSubscription, check_end},
    subscriber::Closed,
    thread::{Fanout, NewStream},
};
use crate::{
    broker::BrokerError,
    channel::{
        Chunk, Hub, LiveChannel, MultiSubscription, Settlement,
        multi::{Fetch, MultiStep},
    },
    metrics::SubscriberGuard,
};

/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Between two looks at the log's clock, which may be set: not too often, and not too seldom.
const CLOCK_LOOKS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(20)..=Duration::from_mins(1);

/// What every stream of a server shares.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Silence after which a comment is sent.
    pub heartbeat: Duration,
    /// How long a subscriber should wait before it reconnects.
    pub retry: Duration,
}

/// What streams are made from.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The channels.
    pub hub: Hub,
    /// Their history.
    pub pages: PageCache,
    /// What all streams share.
    pub settings: StreamSettings,
    /// The threads that sockets leave for; none if they stay.
    pub fanout: Option<Fanout>,
    /// Ends the streams.
    pub stopping: CancellationToken,
}

/// A way out of actix.
#[derive(Debug)]
pub struct Exit {
    /// What actix takes for the connection.
    pub connection: Connection,
    /// How the response goes over it.
    pub framing: Framing,
}

/// The body of a stream, which ends with `stopping`, when nothing up to `until` can come any more, or, given a way out,
/// by taking the socket with it.
#[must_use]
pub fn stream_body(
    streams: Streams,
    new: NewSubscription,
    until: Option<EventId>,
    comment: &str,
    guard: SubscriberGuard,
    exit: Option<Exit>,
) -> impl MessageBody + use<> {
    let mut opening = BytesMut::new();
    let position = match &new {
        NewSubscription::Ready(subscription) => subscription.opening_cursor(),
        NewSubscription::Pending(_) => None,
    };
    wire::opening(&mut opening, streams.settings.retry, position, comment);
    let exit = exit.and_then(|exit| Some((exit, streams.fanout.clone()?)));
    let state = match new {
        NewSubscription::Ready(subscription) => State::Ready(subscription),
        NewSubscription::Pending(subscription) => State::Pending(subscription),
    };
    // In a box, because `unfold` moves it with every chunk.
    let (opening, last_write, closed) = (Some(opening.freeze()), Instant::now(), Closed::Client);
    let driver = Box::new(Driver {
        streams,
        state,
        until,
        exit,
        opening,
        guard,
        last_write,
        closed,
    });
    BodyStream::new(stream::unfold(driver, |mut driver| async move {
        match driver.next().await {
            Next::Bytes(bytes) => Some((Ok(bytes), driver)),
            Next::End => None,
            Next::Leave => Some((driver.leave().await, driver)),
        }
    }))
}

/// One stream.
struct Driver {
    streams: Streams,
    state: State,
    until: Option<EventId>,
    exit: Option<(Exit, Fanout)>,
    opening: Option<Bytes>,
    guard: SubscriberGuard,
    /// When something was last sent.
    last_write: Instant,
    /// Why it ends: unless it is said, because actix has dropped it.
    closed: Closed,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A guard that was taken over counts elsewhere.
        self.guard.closed(self.closed.as_str());
    }
}

enum State {
    /// It is not known yet where the subscription begins.
    Pending(BoxFuture<'static, MultiSubscription>),
    /// It has not begun.
    Ready(MultiSubscription),
    Live(Box<Live>),
    /// Somebody else has it.
    Gone,
}

/// What the body does next.
enum Next {
    /// Sends this, which is never empty.
    Bytes(Bytes),
    /// Hands the socket over.
    Leave,
    End,
}

impl Driver {
    async fn next(&mut self) -> Next {
        if let Some(opening) = self.opening.take() {
            return Next::Bytes(self.speak(opening, 0));
        }
        match self.state {
            State::Ready(_) if self.exit.is_some() => return Next::Leave,
            // Not an end: actix would go on with the requests that were sent behind this one.
            State::Gone => return std::future::pending().await,
            _ => {}
        }
        let stopping = self.streams.stopping.clone();
        let heartbeat_due = self.last_write + self.streams.settings.heartbeat;
        tokio::select! {
            biased;
            () = stopping.cancelled() => self.end(Closed::Stopping),
            said = self.advance() => match said {
                Some((bytes, events)) => Next::Bytes(self.speak(bytes, events)),
                None => self.end(Closed::Ended),
            },
            () = sleep_until(heartbeat_due) => Next::Bytes(self.heartbeat()),
        }
    }

    fn end(&mut self, reason: Closed) -> Next {
        self.closed = reason;
        Next::End
    }

    /// Hands the socket over, with all that belongs to it. The byte returned is for actix, which finds that the
    /// connection does not take it, and drops connection and body.
    async fn leave(&mut self) -> io::Result<Bytes> {
        let (state, exit) = (
            std::mem::replace(&mut self.state, State::Gone),
            self.exit.take(),
        );
        if let (
            State::Ready(subscription),
            Some((
                Exit {
                    connection,
                    framing,
                },
                fanout,
            )),
        ) = (state, exit)
            && let Some(socket) = connection.detach().await?
        {
            fanout.join(NewStream {
                socket,
                framing,
                subscription,
                until: self.until,
                guard: self.guard.take(),
            });
        }
        Ok(Bytes::from_static(b":"))
    }

    /// What the subscription has to say next; none when it is over. Dropped half-way, it goes on where it was.
    async fn advance(&mut self) -> Option<(Bytes, usize)> {
        loop {
            match &mut self.state {
                State::Pending(looking) => {
                    let subscription = looking.await;
                    // The opening could not tell where it is.
                    let said = heartbeat(subscription.opening_cursor());
                    self.state = State::Ready(subscription);
                    return Some((said, 0));
                }
                State::Live(live) => return live.advance(&mut self.guard).await,
                State::Ready(_) | State::Gone => {
                    let State::Ready(subscription) =
                        std::mem::replace(&mut self.state, State::Gone)
                    else {
                        return None;
                    };
                    self.state =
                        State::Live(Box::new(Live::new(&self.streams, subscription, self.until)));
                }
            }
        }
    }

    fn heartbeat(&mut self) -> Bytes {
        let bytes = match &mut self.state {
            State::Pending(_) | State::Gone => heartbeat(None::<EventId>),
            State::Ready(subscription) => heartbeat(subscription.take_unsent_cursor()),
            State::Live(live) => heartbeat(live.subscription.take_unsent_cursor()),
        };
        self.speak(bytes, 0)
    }

    fn speak(&mut self, bytes: Bytes, events: usize) -> Bytes {
        self.last_write = Instant::now();
        self.guard.delivered(events, bytes.len());
        bytes
    }
}

/// A subscription and what it reads from.
struct Live {
    pages: PageCache,
    subscription: MultiSubscription,
    /// In the order of the subscription.
    tails: SmallVec<[LiveTail; 1]>,
    /// A read of history that is under way. A heartbeat does not start it again.
    fetching: Option<Fetching>,
    /// Waits until nothing up to the end can come any more; gives how each channel ends.
    settling: Option<BoxFuture<'static, Vec<Settlement>>>,
    /// Our log has it that this subscriber cannot be served.
    said_damaged: bool,
}

struct LiveTail {
    channel: Arc<LiveChannel>,
    changed: watch::Receiver<()>,
}

struct Fetching {
    fetch: Fetch,
    /// An error comes after a pause.
    page: BoxFuture<'static, Result<SharedPage, BrokerError>>,
}

impl Live {
    fn new(streams: &Streams, subscription: MultiSubscription, until: Option<EventId>) -> Self {
        let hub = &streams.hub;
        let tails = subscription.channels().map(|channel| {
            let channel = hub.join(channel);
            LiveTail {
                changed: channel.tail.watch(),
                channel,
            }
        });
        let tails = tails.collect();
        let settling = until.map(|bound| {
            let channels: Vec<Channel> = subscription.channels().cloned().collect();
            settled(hub.clone(), channels, bound).boxed()
        });
        Self {
            pages: streams.pages.clone(),
            subscription,
            tails,
            fetching: None,
            settling,
            said_damaged: false,
        }
    }

    async fn advance(&mut self, guard: &mut SubscriberGuard) -> Option<(Bytes, usize)> {
        loop {
            // Before the tails, so that busy channels do not keep one waiting that is served from history.
            if let Some(fetching) = &mut self.fetching
                && let std::task::Poll::Ready(page) = poll!(&mut fetching.page)
                && let Some(said) = self.fetched(page, guard)
            {
                return Some(said);
            }
            // Marked as seen before looking: a change during the look wakes the wait below.
            for tail in &mut self.tails {
                tail.changed.borrow_and_update();
            }
            let busy = self.fetching.as_ref().map(|fetching| fetching.fetch.nth);
            let step = self
                .subscription
                .next(|nth| self.tails[nth].channel.tail.frames(), busy);
            guard.behind(self.subscription.is_behind());
            match step {
                MultiStep::Write(chunk) => return Some((chunk.bytes, chunk.events)),
                MultiStep::Fetch(fetch) => {
                    self.fetch(fetch);
                    continue;
                }
                MultiStep::End => {
                    return self
                        .subscription
                        .take_unsent_cursor()
                        .map(|position| (heartbeat(Some(position)), 0));
                }
                MultiStep::Wait => {}
            }
            let page = tokio::select! {
                biased;
                page = arrived(&mut self.fetching) => page,
                settlements = accepted(&mut self.settling) => {
                    self.settling = None;
                    self.subscription.set_settlements(settlements);
                    continue;
                }
                () = changed(&mut self.tails, busy) => continue,
            };
            if let Some(said) = self.fetched(page, guard) {
                return Some(said);
            }
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let Some(channel) = self.subscription.channels().nth(fetch.nth) else {
            return;
        };
        let ask = PageKey {
            channel: channel.clone(),
            from: fetch.from,
            events_max: self.subscription.page_events_max(),
            epoch: fetch.epoch,
        };
        let pages = self.pages.clone();
        let page = async move { pages.read(ask).await }.boxed();
        self.fetching = Some(Fetching { fetch, page });
    }

    fn fetched(
        &mut self,
        page: Result<SharedPage, BrokerError>,
        guard: &SubscriberGuard,
    ) -> Option<(Bytes, usize)> {
        let Fetching { fetch, .. } = self.fetching.take()?;
        if let Err(error @ BrokerError::Damaged(_)) = &page
            && !std::mem::replace(&mut self.said_damaged, true)
        {
            let channel = self
                .subscription
                .channels()
                .nth(fetch.nth)
                .map(Channel::as_str);
            tracing::error!(channel, %error, "a subscriber cannot be served from history");
        }
        let Chunk { bytes, events, gap } = self.subscription.apply_page(fetch, &*page.ok()?)?;
        if let Some(reason) = gap {
            guard.gap(reason);
        }
        Some((bytes, events))
    }
}

/// The page that is on its way, if one is.
async fn arrived(fetching: &mut Option<Fetching>) -> Result<SharedPage, BrokerError> {
    match fetching {
        Some(fetching) => (&mut fetching.page).await,
        None => std::future::pending().await,
    }
}

async fn accepted<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits until a tail changes; not that of the channel that waits for a page.
async fn changed(tails: &mut [LiveTail], busy: Option<usize>) {
    // The senders live in the tails, which are ours.
    let change = async |tail: &mut LiveTail| match tail.changed.changed().await {
        Ok(()) => (),
        Err(_) => std::future::pending().await,
    };
    match (tails, busy) {
        ([], _) | ([_], Some(0)) => std::future::pending().await,
        ([tail], _) => change(tail).await,
        (tails, busy) => {
            let others = tails
                .iter_mut()
                .enumerate()
                .filter(|(nth, _)| Some(*nth) != busy);
            select_all(others.map(|(_, tail)| Box::pin(change(tail)))).await;
        }
    }
}

/// Waits until no event up to `bound` can come any more, in any channel; returns how they end there.
pub(super) async fn settled(hub: Hub, channels: Vec<Channel>, bound: EventId) -> Vec<Settlement> {
    let mut settlements = Vec::with_capacity(channels.len());
    for channel in &channels {
        settlements.push(loop {
            match check_end(hub.broker(), channel, bound).await {
                Ok(ChannelEnd::Settled(settlement)) => break settlement,
                Ok(ChannelEnd::OpenFor(wait)) => {
                    sleep(wait.clamp(*CLOCK_LOOKS.start(), *CLOCK_LOOKS.end())).await
                }
                Err(_) => sleep(RETRY_AFTER).await,
            }
        });
    }
    settlements
}

fn heartbeat(moved_to: Option<impl Display>) -> Bytes {
    let mut bytes = BytesMut::new();
    wire::heartbeat(&mut bytes, moved_to);
    bytes.freeze()
}
