//! `event=`: which types of events a reader of a stream or of history wants.

use sse_proto::{EventType, event::InvalidName};

use super::query::Params;
use crate::{
    channel::Filter,
    http::error::{ApiError, shortened},
};

/// So often `event=` may be given.
const TYPES_MAX: usize = 64;

/// The filter that the parameters ask for; without any, all events pass.
pub(crate) fn of(params: &Params) -> Result<Filter, ApiError> {
    let mut kinds: Vec<EventType> = Vec::new();
    for text in params.all("event") {
        if EventType::RESERVED.contains(&text) {
            continue; // a gap passes every filter, and the others are never published
        }
        let wrong = |why: InvalidName| ApiError::InvalidName {
            what: "event type",
            value: shortened(text),
            why,
        };
        kinds.push(text.parse().map_err(wrong)?);
    }
    if kinds.len() > TYPES_MAX {
        return Err(ApiError::InvalidParameter {
            name: "event",
            why: format!("is given more than {TYPES_MAX} times"),
        });
    }
    Ok(Filter::new(kinds))
}
