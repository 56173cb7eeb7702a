//! Reads the body of a request within limits of size, time, and memory.
//!
//! The memory grows with the bytes that have arrived (see [`body_memory`](super::body_memory)). A
//! body must arrive within 30 s, and after two seconds at 1 KB/s at least: a client that sends a
//! byte now and then would otherwise hold a connection and memory for nothing.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::body_memory::{BodyMemory, MemoryShare};
use crate::{
    budget::ClientNet,
    http::{
        error::{ApiError, ApiResult},
        request_limits::Limit,
    },
};

/// Time for the whole body, without waits for memory.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time before the slowest allowed rate counts.
const GRACE: Duration = Duration::from_secs(2);
/// The slowest allowed rate.
const BYTES_PER_S_MIN: u32 = 1000;

/// A body and its memory, which it holds until it is dropped.
pub(crate) struct Body<'a> {
    pub(crate) bytes: Bytes,
    _share: MemoryShare<'a>,
}

/// Reads the whole body.
///
/// # Errors
///
/// - `TooLarge`: the body exceeds `limit`; checked before reading if the length is declared.
/// - `BodyTimeout`, `BodyTooSlow`, `IncompleteBody`: the client is too slow, or broke off.
/// - `BodyMemoryFull`: other bodies use the memory. The client can retry.
pub(in crate::http) async fn read<'a>(
    request: &HttpRequest,
    mut payload: Payload,
    limit: Limit,
    memory: &'a BodyMemory,
) -> ApiResult<Body<'a>> {
    let length_max = check_declared_length(request, limit)?.unwrap_or(limit.max);
    let mut share = memory.share(ClientNet::of_request(request));
    let mut pace = Pace::start(Instant::now());
    let mut bytes = BytesMut::new();
    while let Some(chunk) = pace.wait_for(payload.next(), bytes.len()).await? {
        let chunk = chunk.map_err(|_| ApiError::IncompleteBody)?;
        let length = bytes.len() + chunk.len();
        limit.check(length)?;
        let asked = Instant::now();
        share.grow_to(length, length_max.max(length)).await?;
        pace.exclude(asked.elapsed());
        bytes.extend_from_slice(&chunk);
    }
    share.shrink_to(bytes.len());
    Ok(Body {
        bytes: bytes.freeze(),
        _share: share,
    })
}

/// The time that a body may take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    start: Instant,
}

impl Pace {
    const fn start(now: Instant) -> Self {
        Self { start: now }
    }

    /// Does not count a wait for which the client is not responsible.
    fn exclude(&mut self, wait: Duration) {
        self.start += wait;
    }

    /// Waits for the next bytes of a body that has `received` bytes.
    async fn wait_for<T>(self, next: impl Future<Output = T>, received: usize) -> ApiResult<T> {
        let (allowed, error) = allowed_time(received);
        timeout_at(self.start + allowed, next)
            .await
            .map_err(|_| error)
    }
}

/// Returns the time in which more than `received` bytes must have arrived, and the error after it.
fn allowed_time(received: usize) -> (Duration, ApiError) {
    let received = u32::try_from(received).unwrap_or(u32::MAX);
    let at_slowest = Duration::from_secs(received.into()) / BYTES_PER_S_MIN;
    match at_slowest.saturating_add(GRACE) {
        allowed if allowed < BODY_TIMEOUT => (allowed, ApiError::BodyTooSlow(BYTES_PER_S_MIN)),
        _ => (BODY_TIMEOUT, ApiError::BodyTimeout(BODY_TIMEOUT.as_secs())),
    }
}

/// Returns the declared length of the body, which is not above `limit`.
fn check_declared_length(request: &HttpRequest, limit: Limit) -> ApiResult<Option<usize>> {
    let declared = declared_length(request.headers());
    if let Some(length) = declared {
        limit.check(length)?;
    }
    Ok(declared)
}

/// Returns the length in the head of the request, or `None` if the body is chunked.
pub(in crate::http) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_two_seconds_and_one_more_per_kilobyte_up_to_thirty() {
        let allowed = |received| allowed_time(received).0;
        assert_eq!(allowed(0), Duration::from_secs(2));
        assert_eq!(allowed(500), Duration::from_millis(2500));
        assert_eq!(allowed(10_000), Duration::from_secs(12));
        assert_eq!(allowed(usize::MAX), BODY_TIMEOUT);
        assert!(matches!(allowed_time(0).1, ApiError::BodyTooSlow(_)));
        assert!(matches!(allowed_time(1 << 20).1, ApiError::BodyTimeout(_)));
    }
}
