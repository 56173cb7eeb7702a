//! Parsers of values that several flags share.

use std::num::NonZeroU64;

use reqwest::StatusCode;
use sse_proto::units::parse_size;

/// A number of events.
pub(super) fn parse_count(text: &str) -> Result<NonZeroU64, &'static str> {
    text.parse().map_err(|_| "write a whole number from 1 on")
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
