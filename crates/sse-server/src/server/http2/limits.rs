//! What one connection may use.
//!
//! | limit | value | beyond it |
//! |---|---|---|
//! | requests at a time | 256 | `h2` resets the request with `REFUSED_STREAM` |
//! | streams among them | 192 | the stream is rejected, and ends at once |
//! | bytes of request bodies that no handler has read | 64 KiB per request, 128 KiB in all | the client waits |
//! | small frames of request bodies that no task has read | about 4000 | `ENHANCE_YOUR_CALM` |
//! | bytes of a request's head | 16 KiB | 431, or `ENHANCE_YOUR_CALM` |
//! | bytes of the heads of all requests that have no response | 512 KiB | the request is reset with `REFUSED_STREAM` |
//! | bytes of one response that wait in `h2` | 16 KiB | the body waits |
//! | bytes of all responses that wait in `h2` | 64 KiB | the bodies wait |
//! | requests that are reset before they are accepted | 20 | `ENHANCE_YOUR_CALM` |
//! | requests that the server resets for errors | 256 | `ENHANCE_YOUR_CALM` |

use std::time::Duration;

use h2::server::Builder;

use crate::fanout::stall::UNSENT_BYTES;

/// Requests at a time.
pub(super) const REQUESTS_MAX: u32 = 256;
/// Tasks of requests at a time. A request that its client has reset no longer counts for `h2`, but
/// its task ends only when it runs next.
pub(super) const TASKS_MAX: usize = 2 * REQUESTS_MAX as usize;
/// Bytes of one frame.
pub(super) const FRAME_BYTES: usize = 16 << 10;
/// Bytes of a request's body that its handler has not read.
const REQUEST_WINDOW: u32 = 64 << 10;
/// Bytes of all bodies of a connection that no handler has read.
const CONNECTION_WINDOW: u32 = 128 << 10;
/// What h2 adds up for small frames that no task has read: 256 bytes less the length, for each. A
/// client that writes line by line can fill its window, if its lines have 16 bytes.
const SMALL_FRAMES_MAX: usize = 1 << 20;
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Bytes of all heads whose requests have no response. A client that repeats a large head sends only
/// some bytes of it again.
pub(super) const HEADS_BYTES_MAX: usize = 512 << 10;
/// Requests that the server resets for errors of their client.
const ERRORS_MAX: usize = 256;
/// Requests that are reset before the server has accepted them.
const EARLY_RESETS_MAX: usize = 20;
/// How long a client has before the slowest allowed rate counts.
const RATE_GRACE: Duration = Duration::from_secs(2);
/// The slowest allowed rate of a response that is not a stream.
const BYTES_PER_S_MIN: u64 = 1000;

/// Returns a builder with the limits of a connection.
pub(super) fn connection_builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(REQUESTS_MAX)
        .initial_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buffer_size(FRAME_BYTES)
        .data_frame_budget(SMALL_FRAMES_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .max_pending_accept_reset_streams(EARLY_RESETS_MAX);
    builder
}

/// Returns how long the client may take for `bytes` of a response that is not a stream, from the
/// time on when it first had no room for more.
///
/// Such a response must arrive at a rate, because it holds memory for the whole of it. A stream may
/// be as slow as the stall timeout allows.
pub(super) fn slowest_time(bytes: u64) -> Duration {
    let received = bytes.saturating_sub(UNSENT_BYTES.into());
    let at_slowest = Duration::from_millis(received.saturating_mul(1000) / BYTES_PER_S_MIN);
    at_slowest.saturating_add(RATE_GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_two_seconds_and_one_more_per_kilobyte_that_is_received() {
        assert_eq!(slowest_time(0), RATE_GRACE);
        assert_eq!(slowest_time(UNSENT_BYTES.into()), RATE_GRACE);
        let bytes = u64::from(UNSENT_BYTES) + 10_000;
        assert_eq!(slowest_time(bytes), Duration::from_secs(12));
        assert!(slowest_time(u64::MAX) > Duration::from_hours(1));
    }
}
