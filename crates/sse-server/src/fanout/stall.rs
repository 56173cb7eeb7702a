//! How long a client may accept no data before its stream counts as stalled.
//!
//! TCP hides slow readers: the client's kernel accepts whatever fits its buffer, and reports new
//! room only when much of the buffer is free. (On Linux that is a sixteenth of the buffer and a
//! whole segment, which is 64 KiB on loopback.) A client that reads 1 KB/s may therefore accept no
//! data for minutes, and looks like a client that has stopped. So each client gets the time in
//! which the slowest allowed reader reads what it has accepted, plus `--write-timeout`:
//!
//! ```text
//! bytes that the client accepted  = bytes written - bytes that may not be sent yet
//! bytes that it may not have read = min(bytes accepted, UNREAD_MAX)
//! stall timeout                   = --write-timeout + bytes that it may not have read / 1 KB/s
//! ```
//!
//! A unix socket has only one buffer, from which the client reads: no byte in it is unsent. The
//! buffer has room again soon after the client has read. But the client is usually a proxy, which
//! reads only when its own client has room, so `UNREAD_MAX` is the same.
//!
//! `reactor/write_timeout` applies the rule to the streams of fan-out threads, and
//! `detach/blocked_write` to all other connections.

use std::time::Duration;

/// Most unsent bytes that this machine's kernel queues per TCP connection.
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
    ///
    /// Up to `unsent_max` bytes may not have reached the client: [`UNSENT_BYTES`], or 0 for a unix
    /// socket.
    #[must_use]
    pub fn stall_timeout(self, write_timeout: Duration, unsent_max: u32) -> Duration {
        let bytes = u64::from(self.0) * UNIT_BYTES as u64;
        let unread = bytes.saturating_sub(unsent_max.into()).min(UNREAD_MAX);
        write_timeout.saturating_add(slowest_read_time(unread))
    }
}

/// Returns the longest stall timeout of any connection.
fn stall_timeout_max(write_timeout: Duration) -> Duration {
    write_timeout.saturating_add(slowest_read_time(UNREAD_MAX))
}

/// Returns the TCP user timeout: how long a peer may acknowledge nothing before the kernel closes
/// the connection.
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
        assert_eq!(accepted.stall_timeout(TIMEOUT, UNSENT_BYTES), TIMEOUT);
        // All of it may still be unsent, but not on a unix socket.
        accepted.add(UNSENT_BYTES as usize);
        assert_eq!(accepted.stall_timeout(TIMEOUT, UNSENT_BYTES), TIMEOUT);
        assert!(accepted.stall_timeout(TIMEOUT, 0) > TIMEOUT + Duration::from_secs(32));
        accepted.add(100_000);
        let stall_timeout = accepted.stall_timeout(TIMEOUT, UNSENT_BYTES);
        assert!(
            stall_timeout >= TIMEOUT + Duration::from_secs(100)
                && stall_timeout < TIMEOUT + Duration::from_secs(101)
        );
        for _ in 0..1000 {
            accepted.add(usize::MAX);
            accepted.add(1 << 20);
        }
        assert_eq!(
            accepted.stall_timeout(TIMEOUT, UNSENT_BYTES),
            stall_timeout_max(TIMEOUT)
        );
        assert!(stall_timeout_max(TIMEOUT) < Duration::from_mins(5));
    }
}
