//! Start of a subscription: finds out where it starts, if possible before the first byte.
//!
//! If the log does not answer in time, the stream opens without a position and the search
//! continues until the log is back. No stream fails to open because the broker is unavailable.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sse_proto::{Channel, EventId, Position};
use tokio::time::timeout;

use crate::{
    broker::{Broker, BrokerError, Continuity, PageLimits, ReadFrom, Settled},
    budget::ClientNet,
    channel::{
        Filter, Hub, MultiSubscription, Searcher, Settlement, StartAt, SubscriptionOptions,
        UnreadableCursor,
        start::{LastSearch, SCAN_LIMITS, resolve_start},
    },
    retry::{RETRY_INTERVAL, retry_until_ok},
};

/// The first byte of a stream waits at most this long for its start position.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(500);
/// Limits of the read that looks for events before the end of a stream. After a stream has ended,
/// only events that it filtered out, or that came after its end, can follow its position.
const END_PAGE: PageLimits = PageLimits {
    events_max: 64,
    bytes_max: 256 << 10,
};
/// The clocks of this machine and of the log may differ by this much.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(2);

/// A subscription whose start position is known, or will be.
pub enum NewSubscription {
    /// The start position is known.
    Ready(MultiSubscription),
    /// The log has not answered yet.
    Pending(BoxFuture<'static, MultiSubscription>),
}

/// How a channel ends at the bound of a subscription.
pub(super) enum ChannelEnd {
    /// No event up to the bound can be added any more.
    Settled(Settlement),
    /// Events up to the bound can be added for about this long.
    OpenFor(Duration),
}

/// Starts a subscription to `starts`, which names each channel once.
///
/// A client that resumes in all of its channels does not wait for the log. A search waits for its
/// turn, and the stream opens without a position meanwhile.
pub async fn start_subscription(
    hub: &Hub,
    starts: Vec<(Channel, StartAt)>,
    options: &SubscriptionOptions,
    searcher: Searcher,
) -> NewSubscription {
    let resolved = resolve_starts(hub.clone(), starts, options.clone(), searcher);
    let mut subscription = resolved.boxed();
    match timeout(RESOLVE_TIMEOUT, &mut subscription).await {
        Ok(subscription) => NewSubscription::Ready(subscription),
        Err(_) => NewSubscription::Pending(subscription),
    }
}

/// Resolves each start, for as long as that takes.
async fn resolve_starts(
    hub: Hub,
    starts: Vec<(Channel, StartAt)>,
    options: SubscriptionOptions,
    searcher: Searcher,
) -> MultiSubscription {
    // A search in many channels costs no more than a search in one.
    let share = starts.len().max(1);
    let search = LastSearch {
        filter: &options.filter,
        until: options.until,
        limits: PageLimits {
            events_max: SCAN_LIMITS.events_max / share,
            bytes_max: SCAN_LIMITS.bytes_max / share,
        },
        searcher: &searcher,
    };
    let fixed = fix_starts_now(&hub, starts, searcher.client()).await;
    // One channel after another: a stream reads for one of its channels at a time, and waits with
    // the memory of one read.
    let mut resolved = Vec::with_capacity(fixed.len());
    for (channel, start) in fixed {
        let cursor = resolve_until_ok(&hub, &channel, start, search).await;
        resolved.push((channel, cursor));
    }
    let ended = find_ended(hub.broker(), &resolved).await;
    let mut subscription = MultiSubscription::new(resolved, &options);
    for nth in ended {
        subscription.set_ended(nth);
    }
    subscription
}

/// Returns the indices of the channels whose end the client has seen.
///
/// If the broker does not answer, the channel counts as open: nothing follows the end of a closed
/// channel anyway, and the client asks again when it reconnects.
async fn find_ended(
    broker: &Broker,
    resolved: &[(Channel, Result<Position, UnreadableCursor>)],
) -> Vec<usize> {
    let mut ended = Vec::new();
    for (nth, (channel, cursor)) in resolved.iter().enumerate() {
        if let Ok(position @ Position::After(_)) = cursor
            && matches!(broker.is_ended(channel, *position).await, Ok(true))
        {
            ended.push(nth);
        }
    }
    ended
}

async fn resolve_until_ok(
    hub: &Hub,
    channel: &Channel,
    start: StartAt,
    search: LastSearch<'_>,
) -> Result<Position, UnreadableCursor> {
    let start = match start {
        StartAt::Resume(Err(unreadable)) => return Err(unreadable),
        start => start,
    };
    let resolve = || resolve_start(hub.broker(), channel, &start, search);
    Ok(retry_until_ok(RETRY_INTERVAL, resolve).await)
}

/// Fixes the starts that mean this moment, all at the same time.
async fn fix_starts_now(
    hub: &Hub,
    mut starts: Vec<(Channel, StartAt)>,
    client: Option<ClientNet>,
) -> Vec<(Channel, StartAt)> {
    let starts_now = starts
        .iter_mut()
        .filter(|(_, start)| matches!(start, StartAt::Now));
    join_all(starts_now.map(async |(channel, start)| {
        *start = fix_now(hub, channel, client).await;
    }))
    .await;
    starts
}

/// Replaces `Now` by a start that still means this moment if it is resolved much later.
///
/// If the broker is unavailable, the start goes by the clock, so that the subscriber misses no
/// event that is published when the broker is back.
async fn fix_now(hub: &Hub, channel: &Channel, client: Option<ClientNet>) -> StartAt {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(CLOCK_SKEW_MAX);
    if let Ok(Ok(head)) = timeout(RESOLVE_TIMEOUT, hub.broker().last_id_for(channel, client)).await
    {
        return StartAt::Resume(Ok(Position::After(head)));
    }
    let live = hub.join(channel);
    let frames = live.tail.frames();
    if frames.is_joined() {
        return StartAt::Resume(Ok(Position::After(frames.end())));
    }
    StartAt::Since(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Whether the subscription has nothing left to send up to `bound`, and nothing can be added.
///
/// Returns `false` if the broker does not answer in time: the stream then opens and ends later.
pub async fn is_over(
    hub: &Hub,
    subscription: &MultiSubscription,
    filter: &Filter,
    bound: EventId,
) -> bool {
    let all_are_over = async {
        for (channel, position) in subscription.positions() {
            let end = is_channel_over(hub.broker(), (channel, position), filter, bound);
            if !matches!(end.await, Ok(true)) {
                return false;
            }
        }
        true
    };
    timeout(RESOLVE_TIMEOUT, all_are_over)
        .await
        .unwrap_or(false)
}

async fn is_channel_over(
    broker: &Broker,
    (channel, position): (&Channel, Position),
    filter: &Filter,
    bound: EventId,
) -> Result<bool, BrokerError> {
    let ChannelEnd::Settled(settlement) = check_end(broker, channel, bound).await? else {
        return Ok(false);
    };
    if settlement.unreported(position, bound).is_some() {
        return Ok(false);
    }
    let from = ReadFrom::Position(position);
    let page = broker.read(channel, from, END_PAGE).await?;
    let reaches_bound = !page.more || page.events.last().is_some_and(|event| event.id > bound);
    let mut within_bound = page
        .events
        .iter()
        .take_while(|event| event.is_within(bound));
    let has_events = within_bound.any(|event| filter.passes(&event.kind));
    Ok(page.start == Continuity::Contiguous && reaches_bound && !has_events)
}

/// Asks the broker how `channel` ends at `bound`.
pub(super) async fn check_end(
    broker: &Broker,
    channel: &Channel,
    bound: EventId,
) -> Result<ChannelEnd, BrokerError> {
    Ok(match broker.check_settled(channel, bound).await? {
        Settled::Through(last) => ChannelEnd::Settled(Settlement {
            last,
            loss: broker.loss_spanning(channel, bound).await?,
        }),
        Settled::NotFor(wait) => ChannelEnd::OpenFor(wait),
    })
}
