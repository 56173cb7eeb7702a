//! The append that both publish routes share, with and without an `Idempotency-Key`.
//!
//! A publisher that got no response repeats its request with the same key. If the events are in the
//! log already, the broker adds nothing and the response has the ids of the first time. So the
//! response to a repetition is the same as the one that was lost.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use actix_web::HttpRequest;
use sse_proto::{Channel, Event};

use crate::{
    broker::{
        Appended, Broker, BrokerError, Publisher,
        idempotency::{AppendItem, AppendOutcome, Fingerprint, IdempotencyKey},
    },
    budget::ClientNet,
    http::{
        access::{caller::Caller, channel_query::ChannelQuery},
        error::{ApiError, ApiResult},
        request::idempotency_key,
        state::AppState,
    },
    metrics::Metrics,
};

/// How errors name the key in the header.
pub(super) const HEADER_KEY: &str = "the Idempotency-Key";

/// What a publish names besides its events, and who sent it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) publisher: Publisher,
    pub(super) channel: Channel,
    /// The number of the caller's principal; `None` if it is anonymous.
    pub(super) principal: Option<u64>,
    /// The key in the header.
    pub(super) key: Option<Fingerprint>,
}

impl Target {
    /// Reads the request, after checking that the caller may publish to its channel.
    pub(super) fn parse(request: &HttpRequest, caller: &Caller) -> ApiResult<Self> {
        let channel = ChannelQuery::channel_of_publish(request.query_string(), caller)?;
        Self::new(request, caller, channel)
    }

    /// Reads the header of a request whose caller may publish to `channel`.
    pub(super) fn new(request: &HttpRequest, caller: &Caller, channel: Channel) -> ApiResult<Self> {
        let principal = caller.identity().owner_number();
        Ok(Self {
            principal,
            channel,
            publisher: Publisher::of_client(ClientNet::of_request(request))
                .with_principal(principal),
            key: idempotency_key::from_header(request)?.map(|key| key.of_principal(principal)),
        })
    }

    /// Returns the same publisher with another channel.
    pub(super) const fn with_channel(&self, channel: Channel) -> Self {
        Self {
            publisher: self.publisher,
            channel,
            principal: self.principal,
            key: self.key,
        }
    }
}

/// Returns `events` as one item, which has the fingerprint of their content if it has a key.
pub(super) fn append_item(events: Vec<Event>, key: Option<Fingerprint>) -> AppendItem {
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        content: Fingerprint::of_events(&events),
    });
    AppendItem {
        events,
        idempotency,
    }
}

/// Appends the items of a publish and counts their events.
///
/// `describe_key` names the key of an item in the error for a key that was used with other content.
///
/// # Errors
///
/// `IdempotencyKeyReused`, or the error of the broker.
pub(super) async fn append(
    state: &AppState,
    target: &Target,
    items: Vec<AppendItem>,
    describe_key: impl Fn(usize) -> String,
) -> ApiResult<Vec<AppendOutcome>> {
    let started = Instant::now();
    let sizes: Vec<Size> = items.iter().map(Size::of).collect();
    let appended = append_items(state.hub.broker(), target, items).await;
    let outcomes = appended.map_err(|error| append_error(error, describe_key))?;
    count(&state.metrics, &outcomes, &sizes, started.elapsed());
    Ok(outcomes)
}

fn append_error(error: BrokerError, describe_key: impl Fn(usize) -> String) -> ApiError {
    match error {
        BrokerError::KeyReused { item } => ApiError::IdempotencyKeyReused(describe_key(item)),
        error => error.into(),
    }
}

fn count(metrics: &Metrics, outcomes: &[AppendOutcome], sizes: &[Size], latency: Duration) {
    let (mut added, mut duplicate) = (Size::default(), Size::default());
    for (outcome, size) in outcomes.iter().zip(sizes) {
        if outcome.duplicate {
            duplicate += *size;
        } else {
            added += *size;
        }
    }
    metrics.published(added.events, added.bytes, latency);
    metrics.deduplicated(duplicate.events);
}

/// Appends all items as one batch if none has a key, which needs fewer steps in the broker.
async fn append_items(
    broker: &Broker,
    Target {
        publisher, channel, ..
    }: &Target,
    items: Vec<AppendItem>,
) -> Result<Vec<AppendOutcome>, BrokerError> {
    if items.iter().any(|item| item.idempotency.is_some()) {
        return broker.append_idempotent(*publisher, channel, items).await;
    }
    let ids = broker.append(*publisher, channel, events_of(items)).await?;
    Ok(vec![AppendOutcome {
        ids,
        duplicate: false,
    }])
}

fn events_of(items: Vec<AppendItem>) -> Vec<Event> {
    items.into_iter().flat_map(|item| item.events).collect()
}

/// Size of an item, for metrics.
#[derive(Clone, Copy, Default)]
struct Size {
    events: usize,
    /// Bytes of data.
    bytes: usize,
}

impl Size {
    fn of(item: &AppendItem) -> Self {
        Self {
            events: item.events.len(),
            bytes: item.events.iter().map(|event| event.data.len()).sum(),
        }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// Returns the first and the last id of a publish.
pub(super) fn first_and_last_id(outcomes: &[AppendOutcome]) -> ApiResult<Appended> {
    id_range(outcomes)
        .ok_or_else(|| BrokerError::OutcomeUnknown("the broker returned no id".to_owned()).into())
}

fn id_range(outcomes: &[AppendOutcome]) -> Option<Appended> {
    let first = outcomes.first()?.ids.first;
    let last = outcomes.last()?.ids.last;
    Some(Appended { first, last })
}
