//! Channels whose log cannot be read now, treated together.
//!
//! If the broker is unavailable, every channel with streams fails. One line is logged when that
//! begins and one when it ends, whatever the number of channels. The pauses between attempts grow
//! with the number of channels that fail, and one success ends all of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sse_proto::Channel;
use tokio::{sync::Notify, time::timeout};

use crate::broker::BrokerError;

/// Shortest pause between two attempts. It is shorter than for one stream, because all subscribers
/// of the channel wait for the read.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Part of the pause per channel that fails: at most a thousand attempts per second are made.
const PAUSE_PER_CHANNEL: Duration = Duration::from_millis(1);

/// The channels that fail.
#[derive(Debug, Default)]
pub(super) struct FeedOutage {
    state: Mutex<State>,
    recovered: Notify,
}

#[derive(Debug, Default)]
struct State {
    failing: u32,
    /// Channels that have failed since none did.
    affected: usize,
}

impl FeedOutage {
    /// Records that `channel`, one of `followed`, fails until the returned value is dropped.
    pub(super) fn begin_failure(
        self: &Arc<Self>,
        channel: &Channel,
        followed: usize,
        error: &BrokerError,
    ) -> FailingChannel {
        let mut state = self.state();
        state.failing += 1;
        state.affected += 1;
        if state.affected == 1 {
            tracing::warn!(
                %channel, followed, %error,
                "the log cannot be read; retrying until it can"
            );
        }
        FailingChannel(self.clone())
    }

    /// Waits until the next attempt is due, or until another channel could be read again.
    pub(super) async fn pause(&self) {
        let pause = PAUSE_PER_CHANNEL * self.state().failing;
        let pause = pause.clamp(PAUSE_MIN, PAUSE_MAX);
        // Both outcomes lead to the same attempt.
        let _ = timeout(pause, self.recovered.notified()).await;
    }

    fn end_failure(&self) {
        let mut state = self.state();
        state.failing -= 1;
        if state.failing == 0 {
            let channels = std::mem::take(&mut state.affected);
            tracing::info!(channels, "no channel waits for the log any more");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that fails. It no longer does once this is dropped.
#[derive(Debug)]
pub(super) struct FailingChannel(Arc<FeedOutage>);

impl FailingChannel {
    /// The channel could be read again, so the others probably can.
    pub(super) fn recover(self) {
        self.0.recovered.notify_waiters();
    }
}

impl Drop for FailingChannel {
    fn drop(&mut self) {
        self.0.end_failure();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn fail(outage: &Arc<FeedOutage>) -> FailingChannel {
        let error = BrokerError::Unavailable(String::new());
        outage.begin_failure(&"a".parse().unwrap(), 1, &error)
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_the_channels_that_fail() {
        let outage = Arc::new(FeedOutage::default());
        let mut failing = vec![fail(&outage)];
        for (channels, pause) in [
            (1, PAUSE_MIN),
            (2000, Duration::from_secs(2)),
            (10_000, PAUSE_MAX),
        ] {
            failing.resize_with(channels, || fail(&outage));
            let start = Instant::now();
            outage.pause().await;
            assert!(start.elapsed() >= pause && start.elapsed() < pause * 2);
        }
        assert_eq!(outage.state().affected, 10_000);
        drop(failing);
        assert_eq!(outage.state().failing, 0);
        assert_eq!(outage.state().affected, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_channel_that_recovers_ends_the_pause_of_all() {
        let outage = Arc::new(FeedOutage::default());
        let mut failing: Vec<FailingChannel> = (0..4000).map(|_| fail(&outage)).collect();
        let start = Instant::now();
        let recovered = failing.pop().unwrap();
        let recover = async { recovered.recover() };
        tokio::join!(outage.pause(), outage.pause(), recover);
        assert!(start.elapsed() < PAUSE_MIN);
    }
}
