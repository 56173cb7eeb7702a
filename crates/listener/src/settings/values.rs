//! Parsers of values that several flags share.

use std::num::NonZeroU64;

use reqwest::StatusCode;
use sse_cli::number::{parse_number, parse_positive_number};
use sse_proto::{
    moment::{is_zero, parse_moment},
    units::parse_size,
};

/// Most streams of a load test.
const CONNECTIONS_MAX: u32 = 4_000_000;

/// A number of events.
pub(super) fn parse_count(text: &str) -> Result<NonZeroU64, &'static str> {
    parse_positive_number(text)
}

/// A number of streams.
pub(super) fn parse_connections(text: &str) -> Result<u32, String> {
    parse_number(text, &(1..=CONNECTIONS_MAX))
}

/// A number without a limit.
pub(super) fn parse_whole_number(text: &str) -> Result<u64, String> {
    parse_number(text, &(0..=u64::MAX))
}

/// A moment, which is checked here and sent as it is written: a duration ago counts by the clock of
/// the server.
pub(super) fn parse_since(text: &str) -> Result<String, String> {
    if is_zero(text) {
        let why = "is not a time: for all events that the server keeps, write a time before them, \
                   like 1970-01-01T00:00:00Z";
        return Err(format!("{text:?} {why}"));
    }
    parse_moment(text).map(|_| text.to_owned())
}

/// A status of a response that is final, and not a stream.
pub(super) fn parse_retried_status(text: &str) -> Result<StatusCode, &'static str> {
    text.parse()
        .ok()
        .filter(|code| (201..=599).contains(code))
        .and_then(|code: u16| StatusCode::from_u16(code).ok())
        .ok_or("write the status of a response without a stream, from 201 to 599, like 404")
}

/// The size of an event in bytes, like `512KiB`.
pub(super) fn parse_event_size(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_size(text)?.as_u64()) {
        Ok(0) => Err("must be more than zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("is more than this machine can address".to_owned()),
    }
}
