//! Parsers of values that several flags share.

use std::num::NonZeroU64;

use sse_proto::units::parse_size;

/// A number of events.
pub(super) fn parse_count(text: &str) -> Result<NonZeroU64, &'static str> {
    text.parse().map_err(|_| "write a whole number from 1 on")
}

/// The size of an event in bytes, like `512KiB`.
pub(super) fn parse_event_size(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_size(text)?.as_u64()) {
        Ok(0) => Err("must be more than zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("is more than this machine can address".to_owned()),
    }
}
