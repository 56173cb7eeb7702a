//! Publishing with a key: what a key may be, and how one that is known is answered.

use std::time::Instant;

use actix_web::{HttpRequest, http::header::HeaderName};
use sse_proto::Channel;

use crate::{
    broker::{
        Appended, BrokerError,
        idempotency::{AppendItem, AppendOutcome, Fingerprint},
    },
    http::{error::ApiError, state::AppState},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

/// A key as a publisher writes it: any visible ASCII, so that every client and log can show it.
pub(super) fn key(text: &[u8]) -> Result<Fingerprint, &'static str> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX || !text.iter().all(u8::is_ascii_graphic) {
        return Err("a key is 1 to 255 visible ASCII characters, without spaces");
    }
    Ok(Fingerprint::of_key(text))
}

/// The key of the whole request, if it has one.
pub(super) fn header(request: &HttpRequest) -> Result<Option<Fingerprint>, ApiError> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::InvalidIdempotencyKey(
            "the header is given more than once",
        ));
    }
    key(value.as_bytes())
        .map(Some)
        .map_err(ApiError::InvalidIdempotencyKey)
}

/// Appends the parts of a publish and counts them. `whose` says of which key the publisher is told that it was used.
pub(super) async fn publish(
    state: &AppState,
    channel: &Channel,
    items: Vec<AppendItem>,
    whose: impl Fn(usize) -> String,
) -> Result<Vec<AppendOutcome>, ApiError> {
    let started = Instant::now();
    let size = |item: &AppendItem| {
        (
            item.events.len(),
            item.events
                .iter()
                .map(|event| event.data.len())
                .sum::<usize>(),
        )
    };
    let sizes: Vec<_> = items.iter().map(size).collect();
    let broker = state.hub.broker();
    let placed = if items.iter().any(|item| item.idempotency.is_some()) {
        broker
            .append_idempotent(channel, items)
            .await
            .map_err(|error| match error {
                BrokerError::KeyReused { item } => ApiError::IdempotencyKeyReused(whose(item)),
                error => error.into(),
            })?
    } else {
        let events = items.into_iter().flat_map(|item| item.events).collect();
        vec![AppendOutcome {
            ids: broker.append(channel, events).await?,
            duplicate: false,
        }]
    };
    let (mut events, mut bytes, mut repeated) = (0, 0, 0);
    for (placed, (part_events, part_bytes)) in placed.iter().zip(sizes) {
        if placed.duplicate {
            repeated += part_events;
        } else {
            events += part_events;
            bytes += part_bytes;
        }
    }
    state.metrics.published(events, bytes, started.elapsed());
    state.metrics.repeated(repeated);
    Ok(placed)
}

/// The first and the last id of a publish.
pub(super) fn ends(placed: &[AppendOutcome]) -> Result<Appended, ApiError> {
    match placed {
        [first, .., last] => Ok(Appended {
            first: first.ids.first,
            last: last.ids.last,
        }),
        [only] => Ok(only.ids),
        [] => Err(BrokerError::OutcomeUnknown("the broker told no id".to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_can_be_seen() {
        let longest = "~".repeat(255);
        for good in [
            "a",
            "!",
            "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
            "a=b;c,d/e",
            &longest,
        ] {
            assert!(key(good.as_bytes()).is_ok(), "{good}");
        }
        let longer = "~".repeat(256);
        for bad in ["", " ", "a b", "a\tb", "a\0", "\u{7f}", "é", &longer] {
            assert!(key(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_ne!(key(b"a"), key(b"A"));
    }
}
