//! `event=`: which types of events a reader of a stream or of history gets.

use sse_proto::EventType;

use super::query::Params;
use crate::{
    channel::Filter,
    http::error::{ApiError, ApiResult},
};

/// How often `event=` may be given.
const TYPES_MAX: usize = 64;

/// Returns the filter of a request; without `event=`, all events pass.
pub(crate) fn parse(params: &Params) -> ApiResult<Filter> {
    let kinds = parse_kinds(params)?;
    check_count(&kinds)?;
    Ok(Filter::new(kinds))
}

fn check_count(kinds: &[EventType]) -> ApiResult<()> {
    if kinds.len() <= TYPES_MAX {
        return Ok(());
    }
    let why = format!("is given more than {TYPES_MAX} times");
    Err(ApiError::invalid_parameter("event", why))
}

fn parse_kinds(params: &Params) -> ApiResult<Vec<EventType>> {
    params
        .all("event")
        // A gap passes every filter, and events of these other types do not exist.
        .filter(|text| !EventType::NEVER_STORED.contains(text))
        .map(parse_kind)
        .collect()
}

fn parse_kind(text: &str) -> ApiResult<EventType> {
    EventType::of_stored(text.into()).map_err(|why| ApiError::invalid_name("event type", text, why))
}
