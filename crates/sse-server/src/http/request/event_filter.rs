//! `event=`: which types of events a reader of a stream or of history gets.

use sse_proto::{EventType, event::InvalidName};

use super::query::Params;
use crate::{
    channel::Filter,
    http::error::{ApiError, shortened},
};

/// How often `event=` may be given.
const TYPES_MAX: usize = 64;

/// Returns the filter of a request; without `event=`, all events pass.
pub(crate) fn parse(params: &Params) -> Result<Filter, ApiError> {
    let mut kinds: Vec<EventType> = Vec::new();
    for text in params.all("event") {
        if EventType::RESERVED.contains(&text) {
            // A gap passes every filter, and events of the other reserved types do not exist.
            continue;
        }
        let invalid = |why: InvalidName| ApiError::InvalidName {
            what: "event type",
            value: shortened(text),
            why,
        };
        kinds.push(text.parse().map_err(invalid)?);
    }
    if kinds.len() > TYPES_MAX {
        return Err(ApiError::InvalidParameter {
            name: "event",
            why: format!("is given more than {TYPES_MAX} times"),
        });
    }
    Ok(Filter::new(kinds))
}
