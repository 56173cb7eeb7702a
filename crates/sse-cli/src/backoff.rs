//! Pauses between retries: each is twice as long as the one before, up to a limit.
//!
//! The caller adds jitter, so that clients that were disconnected together do not reconnect
//! together, and decides when to give up.

use std::time::Duration;

/// An exponential backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl Backoff {
    /// Returns the pause after `failures` further failures: `pause_min` · 2^`failures`, at most
    /// `pause_max`.
    #[must_use]
    pub fn pause_after(self, failures: u32) -> Duration {
        self.pause_min
            .saturating_mul(2_u32.saturating_pow(failures))
            .min(self.pause_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let backoff = Backoff {
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
        };
        assert_eq!(
            [0, 1, 2, 5, 6, 90, u32::MAX].map(|failures| backoff.pause_after(failures).as_millis()),
            [100, 200, 400, 3200, 5000, 5000, 5000]
        );
    }
}
