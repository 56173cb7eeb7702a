//! Finds out where a subscription begins, before its first byte if the log answers in time.
//!
//! With the log away a stream begins all the same, and finds out when it is back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sse_proto::{Channel, EventId, Position};
use tokio::time::{sleep, timeout};

use crate::{
    broker::{self, Broker, BrokerError, PageLimits, ReadFrom, Settled},
    channel::{
        Beginning, Filter, Hub, MultiSubscription, Settlement, Start, Wanted, start::SCAN_LIMITS,
    },
};

/// How long the first byte waits for the log to say where the subscription begins.
const WITHIN: Duration = Duration::from_millis(500);
/// What is looked through for something that is left: a stream that ended says so far that only what it filtered out,
/// or what came after its end, can lie here.
const END_PAGE: PageLimits = PageLimits {
    events_max: 64,
    bytes_max: 256 << 10,
};
/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How far the clocks of this machine and of the log may be apart.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(2);

/// Where a subscription begins in one channel, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The subscriber came back with something.
    Start(Start),
    /// It did not.
    Beginning(Beginning),
}

/// A subscription, or its beginning while that is still looked for.
pub enum Begun {
    /// Its place is known.
    AppendOutcome(MultiSubscription),
    /// The log has not answered yet.
    Looking(BoxFuture<'static, MultiSubscription>),
}

/// Begins a subscription to these channels, each once.
pub async fn begin(hub: &Hub, channels: Vec<(Channel, Asked)>, wanted: &Wanted) -> Begun {
    let placed = |channels: &[(Channel, Asked)]| {
        let start = |(channel, asked): &(Channel, Asked)| match asked {
            Asked::Start(start) => Some((channel.clone(), start.clone())),
            Asked::Beginning(_) => None,
        };
        channels.iter().map(start).collect::<Option<Vec<_>>>()
    };
    // Whoever comes back needs no look at the log.
    if let Some(starts) = placed(&channels) {
        return Begun::AppendOutcome(MultiSubscription::new(starts, wanted));
    }
    let mut looking = look(hub.clone(), channels, wanted.clone()).boxed();
    match timeout(WITHIN, &mut looking).await {
        Ok(subscription) => Begun::AppendOutcome(subscription),
        Err(_) => Begun::Looking(looking),
    }
}

/// Whether nothing that is wanted up to `bound` is left for a subscription, no gap either, and nothing can come any
/// more. If that cannot be found out soon it is taken to go on.
pub async fn is_over(
    hub: &Hub,
    subscription: &MultiSubscription,
    filter: &Filter,
    bound: EventId,
) -> bool {
    let nothing_is_left = async {
        for (channel, position) in subscription.positions() {
            let Ok(Ok(settlement)) = settlement(hub.broker(), channel, bound).await else {
                return false;
            };
            if settlement.unreported(position, bound).is_some() {
                return false;
            }
            let from = ReadFrom::Position(position);
            let Ok(page) = hub.broker().read(channel, from, END_PAGE).await else {
                return false;
            };
            let mut within = page
                .events
                .iter()
                .take_while(|event| event.is_within(bound));
            let is_all = !page.more || page.events.last().is_some_and(|event| event.id > bound);
            if page.start != broker::Continuity::Contiguous
                || !is_all
                || within.any(|event| filter.passes(&event.kind))
            {
                return false;
            }
        }
        true
    };
    timeout(WITHIN, nothing_is_left).await.unwrap_or(false)
}

/// How a channel ends at `bound`; or for about how long events up to there can still come.
pub(super) async fn settlement(
    broker: &Broker,
    channel: &Channel,
    bound: EventId,
) -> Result<Result<Settlement, Duration>, BrokerError> {
    Ok(match broker.check_settled(channel, bound).await? {
        Settled::Through(last) => Ok(Settlement {
            last,
            loss: broker.loss_spanning(channel, bound).await?,
        }),
        Settled::NotFor(wait) => Err(wait),
    })
}

/// Looks for as long as it takes.
async fn look(hub: Hub, channels: Vec<(Channel, Asked)>, wanted: Wanted) -> MultiSubscription {
    // So that a search in many channels costs no more than in one.
    let share = channels.len().max(1);
    let scan = PageLimits {
        events_max: SCAN_LIMITS.events_max / share,
        bytes_max: SCAN_LIMITS.bytes_max / share,
    };
    let starts = join_all(channels.into_iter().map(async |(channel, asked)| {
        let start = match asked {
            Asked::Start(start) => start,
            Asked::Beginning(beginning) => {
                Start::Claimed(position(&hub, &channel, beginning, &wanted, scan).await)
            }
        };
        (channel, start)
    }));
    MultiSubscription::new(starts.await, &wanted)
}

async fn position(
    hub: &Hub,
    channel: &Channel,
    beginning: Beginning,
    wanted: &Wanted,
    scan: PageLimits,
) -> Position {
    let beginning = match beginning {
        Beginning::Now => match now(hub, channel).await {
            Ok(position) => return position,
            Err(later) => later,
        },
        other => other,
    };
    loop {
        if let Ok(position) = beginning
            .locate(hub.broker(), channel, &wanted.filter, wanted.until, scan)
            .await
        {
            return position;
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Where "now" is in a channel; with the broker away, a beginning as late as surely loses nothing.
async fn now(hub: &Hub, channel: &Channel) -> Result<Position, Beginning> {
    let asked_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(CLOCK_SKEW_MAX);
    if let Ok(Ok(head)) = timeout(WITHIN, hub.broker().last_id(channel)).await {
        return Ok(Position::After(head));
    }
    let live = hub.join(channel);
    let frames = live.tail.frames();
    if frames.is_joined() {
        return Ok(Position::After(frames.end()));
    }
    // By the clock, then, so that what comes when the broker is back is not missed.
    Err(Beginning::Since(
        u64::try_from(asked_ms.as_millis()).unwrap_or(u64::MAX),
    ))
}
