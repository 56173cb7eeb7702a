//! How long a client may accept no data before its stream counts as stalled.
//!
//! TCP hides slow readers: the client's kernel accepts whatever fits its buffer, and reports new
//! room only when much of the buffer is free. (On Linux that is a sixteenth of the buffer and a
//! whole segment, which is 64 KiB on loopback.) A client that reads 1 KB/s may therefore accept no
//! data for minutes, and looks like a client that has stopped. So each client gets the time in
//! which the slowest allowed reader reads what it has accepted, plus `--write-timeout`:
//!
//! ```text
//! bytes that the client accepted  = bytes written - bytes still in this machine's kernel
//! bytes that it may not have read = min(bytes accepted, UNREAD_MAX)
//! stall timeout                   = --write-timeout + bytes that it may not have read / 1 KB/s
//! ```

use std::time::Duration;

/// Most unsent bytes that this machine's kernel queues per connection.
pub const UNSENT_BYTES: u32 = 32 << 10;
/// A client that reads at least this fast is never closed as stalled.
const SLOWEST_BYTES_PER_S: u64 = 1000;
/// Most accepted bytes that a client may not have read yet: a sixteenth of the largest receive
/// buffers, and more than all of a buffer that does not grow.
const UNREAD_MAX: u64 = 256 << 10;
/// How long a peer may acknowledge nothing, beyond the longest stall timeout.
const USER_TIMEOUT_MARGIN: Duration = Duration::from_mins(1);
/// Unit in which accepted bytes are counted, so that the count fits 16 bits.
const UNIT_BYTES: usize = 256;

/// Bytes that a connection has accepted in all, up to the number that matters for the timeout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BytesAccepted(u16);

impl BytesAccepted {
    /// Adds `bytes` that the socket has accepted.
    pub fn add(&mut self, bytes: usize) {
        let units = u16::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u16::MAX);
        self.0 = self.0.saturating_add(units);
    }

    /// Returns how long the connection may accept no data before it is stalled.
    #[must_use]
    pub fn stall_timeout(self, write_timeout: Duration) -> Duration {
        let bytes = u64::from(self.0) * UNIT_BYTES as u64;
        // The client has not received what is still in this machine's kernel.
        let unread = bytes
            .saturating_sub(u64::from(UNSENT_BYTES))
            .min(UNREAD_MAX);
        write_timeout.saturating_add(slowest_read_time(unread))
    }
}

/// Returns the longest stall timeout of any connection.
fn stall_timeout_max(write_timeout: Duration) -> Duration {
    write_timeout.saturating_add(slowest_read_time(UNREAD_MAX))
}

/// Returns the TCP user timeout: how long a peer may acknowledge nothing before the kernel closes the
/// connection.
///
/// Linux also closes the connection of a peer that acknowledges but has no room for data, so the
/// timeout is longer than every stall timeout. The sweep of `reachability` closes the streams of
/// clients that vanished earlier.
#[must_use]
pub fn user_timeout(write_timeout: Duration) -> Duration {
    stall_timeout_max(write_timeout).saturating_add(USER_TIMEOUT_MARGIN)
}

/// Returns the pause between two attempts to write to a client that accepts no data.
///
/// The attempts are necessary because a socket becomes writable only when it has much room.
#[must_use]
pub fn retry_interval(write_timeout: Duration) -> Duration {
    (write_timeout / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
}

/// Returns how long the slowest allowed client reads `bytes`.
const fn slowest_read_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / SLOWEST_BYTES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    #[test]
    fn the_timeout_grows_with_the_bytes_accepted_up_to_a_limit() {
        let mut accepted = BytesAccepted::default();
        assert_eq!(accepted.stall_timeout(TIMEOUT), TIMEOUT);
        // All of it may still be in this machine's kernel.
        accepted.add(UNSENT_BYTES as usize);
        assert_eq!(accepted.stall_timeout(TIMEOUT), TIMEOUT);
        accepted.add(100_000);
        let stall_timeout = accepted.stall_timeout(TIMEOUT);
        assert!(
            stall_timeout >= TIMEOUT + Duration::from_secs(100)
                && stall_timeout < TIMEOUT + Duration::from_secs(101)
        );
        for _ in 0..1000 {
            accepted.add(usize::MAX);
            accepted.add(1 << 20);
        }
        assert_eq!(accepted.stall_timeout(TIMEOUT), stall_timeout_max(TIMEOUT));
        assert!(stall_timeout_max(TIMEOUT) < Duration::from_mins(5));
    }
}
