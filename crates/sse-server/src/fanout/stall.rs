//! How long a client is waited for that takes nothing.
//!
//! TCP hides whoever reads slowly: its kernel takes at once what it has room for, and tells of new room only when a good
//! part of it is free (Linux: a sixteenth of the buffer, and a whole segment, which is 64 KiB on loopback). A client that
//! reads 1 KB/s may so take nothing for minutes, and until then nothing tells it from one that has stopped. So each gets
//! the time in which one that reads so slowly must have read what it was given, and `--write-timeout` beyond that.

use std::time::Duration;

/// What may wait in our own kernel to be sent to a client: no slow one holds more.
pub const UNSENT_BYTES: u32 = 32 << 10;
/// Who reads no slower is never closed.
const SLOWEST_BYTES_PER_S: u64 = 1000;
/// What a client is taken to have unread at the most: a sixteenth of the largest receive buffers, and more than all of
/// those that do not grow.
const UNREAD_MAX: u64 = 256 << 10;
/// In which it is counted, so that it takes little room.
const UNIT_BYTES: usize = 256;

/// What a connection has taken in all, as far as it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BytesAccepted(u16);

impl BytesAccepted {
    /// It took so many bytes more.
    pub fn add(&mut self, bytes: usize) {
        let units = u16::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u16::MAX);
        self.0 = self.0.saturating_add(units);
    }

    /// How long it may take nothing before it is stalled.
    #[must_use]
    pub fn stall_timeout(self, write_timeout: Duration) -> Duration {
        let bytes = u64::from(self.0) * UNIT_BYTES as u64;
        // What our own kernel still has was not given to the client.
        let unread = bytes
            .saturating_sub(u64::from(UNSENT_BYTES))
            .min(UNREAD_MAX);
        write_timeout.saturating_add(reading(unread))
    }
}

/// The longest that any connection may take nothing.
#[must_use]
pub fn stall_timeout_max(write_timeout: Duration) -> Duration {
    write_timeout.saturating_add(reading(UNREAD_MAX))
}

/// Between two times that a client which takes nothing is offered the rest: its socket says that it has room only when it
/// has much.
#[must_use]
pub fn retry_interval(write_timeout: Duration) -> Duration {
    (write_timeout / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
}

/// How long the slowest client reads so much.
const fn reading(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / SLOWEST_BYTES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    #[test]
    fn who_was_given_much_may_read_it_and_nobody_waits_for_ever() {
        let mut accepted = BytesAccepted::default();
        assert_eq!(accepted.stall_timeout(TIMEOUT), TIMEOUT);
        // All of it may still be in our own kernel.
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
