//! The append that both publish routes share, with and without an `Idempotency-Key`.
//!
//! A publisher that got no response repeats its request with the same key. If the events are in the
//! log already, the broker adds nothing and the response has the ids of the first time. So the
//! response to a repetition is the same as the one that was lost.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use sse_proto::Channel;

use crate::{
    broker::{
        Appended, Broker, BrokerError,
        idempotency::{AppendItem, AppendOutcome},
    },
    http::{error::ApiError, state::AppState},
    metrics::Metrics,
};

/// Appends the items of a publish and counts their events.
///
/// `describe_key` names the key of an item in the error for a key that was used with other content.
///
/// # Errors
///
/// `IdempotencyKeyReused`, or the error of the broker.
pub(super) async fn append(
    state: &AppState,
    channel: &Channel,
    items: Vec<AppendItem>,
    describe_key: impl Fn(usize) -> String,
) -> Result<Vec<AppendOutcome>, ApiError> {
    let started = Instant::now();
    let sizes: Vec<Size> = items.iter().map(Size::of).collect();
    let outcomes = append_items(state.hub.broker(), channel, items)
        .await
        .map_err(|error| match error {
            BrokerError::KeyReused { item } => ApiError::IdempotencyKeyReused(describe_key(item)),
            error => error.into(),
        })?;
    count(&state.metrics, &outcomes, &sizes, started.elapsed());
    Ok(outcomes)
}

fn count(metrics: &Metrics, outcomes: &[AppendOutcome], sizes: &[Size], latency: Duration) {
    let (mut added, mut repeated) = (Size::default(), Size::default());
    for (outcome, size) in outcomes.iter().zip(sizes) {
        if outcome.duplicate {
            repeated += *size;
        } else {
            added += *size;
        }
    }
    metrics.published(added.events, added.bytes, latency);
    metrics.repeated(repeated.events);
}

/// Appends all items as one batch if none has a key, which needs fewer steps in the broker.
async fn append_items(
    broker: &Broker,
    channel: &Channel,
    items: Vec<AppendItem>,
) -> Result<Vec<AppendOutcome>, BrokerError> {
    if items.iter().any(|item| item.idempotency.is_some()) {
        return broker.append_idempotent(channel, items).await;
    }
    let events = items.into_iter().flat_map(|item| item.events).collect();
    let ids = broker.append(channel, events).await?;
    Ok(vec![AppendOutcome {
        ids,
        duplicate: false,
    }])
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
pub(super) fn first_and_last_id(outcomes: &[AppendOutcome]) -> Result<Appended, ApiError> {
    match outcomes {
        [first, .., last] => Ok(Appended {
            first: first.ids.first,
            last: last.ids.last,
        }),
        [only] => Ok(only.ids),
        [] => Err(BrokerError::OutcomeUnknown("the broker returned no id".to_owned()).into()),
    }
}
