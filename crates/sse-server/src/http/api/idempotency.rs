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
        Appended, BrokerError, Publisher,
        idempotency::{AppendItem, AppendOutcome, Fingerprint, IdempotencyKey},
        lifecycle::{ChannelSettings, CloseReason, Condition, Incarnation, Write, Written},
    },
    budget::ClientNet,
    http::{
        access::{
            caller::Caller,
            channel_query::{ChannelQuery, LifecycleParams},
        },
        error::{ApiError, ApiResult},
        request::{condition, idempotency_key},
        request_trace::tracer,
        state::AppState,
    },
    metrics::Metrics,
    trace::{Happening, Tracer},
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
    /// The end that follows the events.
    pub(super) close: Option<CloseReason>,
    /// What must hold.
    pub(super) condition: Option<Condition>,
    /// The settings of the channel, if the publish creates it.
    pub(super) settings: ChannelSettings,
    /// The incarnation that the publish belongs to, once a part of it is stored.
    pub(super) incarnation: Option<Incarnation>,
    /// Reports the publish to the open traces; `None` if none was open when the request arrived.
    tracer: Option<Tracer>,
}

impl Target {
    /// Returns the write of these items.
    ///
    /// The end is a part of what the key in the header identifies. A key of a line identifies the
    /// line.
    fn write(&self, mut items: Vec<AppendItem>) -> Write {
        if let (Some(_), Some(reason)) = (self.key, &self.close) {
            for idempotency in items
                .iter_mut()
                .filter_map(|item| item.idempotency.as_mut())
            {
                idempotency.content = idempotency.content.closing(reason);
            }
        }
        Write {
            items,
            close: self.close.clone(),
            condition: self.condition,
            incarnation: self.incarnation,
            settings: self.settings,
        }
    }

    /// Reads the request, after checking that the caller may publish to its channel.
    pub(super) fn parse(
        request: &HttpRequest,
        state: &AppState,
        caller: &Caller,
    ) -> ApiResult<Self> {
        let (channel, lifecycle) = ChannelQuery::of_publish(request.query_string(), caller)?;
        lifecycle.check(state, caller, &channel)?;
        Self::new(request, caller, channel, &lifecycle)
    }

    /// Reads the headers of a request whose caller may publish to `channel`.
    pub(super) fn new(
        request: &HttpRequest,
        caller: &Caller,
        channel: Channel,
        lifecycle: &LifecycleParams,
    ) -> ApiResult<Self> {
        let principal = caller.identity().owner_number();
        Ok(Self {
            principal,
            channel,
            publisher: Publisher::of_client(ClientNet::of_request(request))
                .with_principal(principal),
            key: idempotency_key::from_header(request)?.map(|key| key.of_principal(principal)),
            close: lifecycle.close.clone(),
            settings: lifecycle.settings,
            condition: condition::parse(request)?,
            incarnation: None,
            tracer: tracer(request, caller),
        })
    }

    /// Returns the same publisher with another channel.
    pub(super) fn with_channel(&self, channel: Channel) -> Self {
        Self {
            channel,
            ..self.clone()
        }
    }

    /// Reports what was stored to the open traces.
    fn trace(&self, outcomes: &[AppendOutcome], added: Size, duplicates: usize) {
        let (Some(tracer), Some(ids)) = (&self.tracer, id_range(outcomes)) else {
            return;
        };
        let channels = std::slice::from_ref(&self.channel);
        let published = Happening::Published {
            events: added.events,
            bytes: added.bytes,
            duplicates,
            first_id: ids.first,
            last_id: ids.last,
        };
        tracer.record(channels, &published);
    }

    /// Whether the publish concerns more than the events of its channel.
    pub(super) fn has_lifecycle(&self) -> bool {
        self.close.is_some() || self.condition.is_some() || !self.settings.is_default()
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
) -> ApiResult<Written> {
    let started = Instant::now();
    let sizes: Vec<Size> = items.iter().map(Size::of).collect();
    let write = target.write(items);
    let broker = state.hub.broker();
    let written = broker.write(target.publisher, &target.channel, write).await;
    let written = written.map_err(|error| append_error(error, describe_key))?;
    let outcomes = &written.outcomes;
    let (added, duplicate) = count(&state.metrics, outcomes, &sizes, started.elapsed());
    let busiest = state.metrics.busiest();
    busiest.record(&target.channel, added.events, added.bytes);
    target.trace(outcomes, added, duplicate.events);
    Ok(written)
}

fn append_error(error: BrokerError, describe_key: impl Fn(usize) -> String) -> ApiError {
    match error {
        BrokerError::KeyReused { item } => ApiError::IdempotencyKeyReused(describe_key(item)),
        error => error.into(),
    }
}

/// Counts the items of a publish; returns the sizes of those that were added, and of the others.
fn count(
    metrics: &Metrics,
    outcomes: &[AppendOutcome],
    sizes: &[Size],
    latency: Duration,
) -> (Size, Size) {
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
    (added, duplicate)
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
