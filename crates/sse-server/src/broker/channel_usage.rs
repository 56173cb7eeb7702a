//! Warns before the log has as many channels as it may have, because the next one is rejected then.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

/// Percentage of the limit from which on new channels are a reason to warn.
///
/// A single client can create seven eighths of the channels, so the warning comes before that.
const WARN_PERCENT: usize = 80;
const LOG_INTERVAL: Duration = Duration::from_hours(1);

/// Compares the number of channels with its limit.
#[derive(Debug)]
pub(super) struct ChannelUsage {
    channels_max: usize,
    throttle: Mutex<LogThrottle>,
}

impl ChannelUsage {
    pub(super) const fn new(channels_max: usize) -> Self {
        Self {
            channels_max,
            throttle: Mutex::new(LogThrottle::every(LOG_INTERVAL)),
        }
    }

    /// Records that there are `channels` now, one or more of which are new.
    pub(super) fn record_growth(&self, channels: usize) {
        if !self.is_nearly_full(channels) {
            return;
        }
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if throttle.record(Instant::now()).is_some() {
            tracing::warn!(
                channels,
                channels_max = self.channels_max,
                "the number of channels is near --channels-max; at the limit, a new channel is rejected \
                 unless an idle one can be removed, and one client can create seven eighths of the \
                 channels (logged at most hourly)"
            );
        }
    }

    const fn is_nearly_full(&self, channels: usize) -> bool {
        channels.saturating_mul(100) >= self.channels_max.saturating_mul(WARN_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_of_the_limit_are_nearly_full() {
        let usage = ChannelUsage::new(10);
        assert!(!usage.is_nearly_full(7) && usage.is_nearly_full(8));
        assert!(!ChannelUsage::new(usize::MAX).is_nearly_full(1_000_000));
        assert!(ChannelUsage::new(1).is_nearly_full(1));
    }
}
