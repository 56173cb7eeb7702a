//! What both supervised connections (`connection`, `pubsub`) share: pauses between attempts to
//! connect, and a time limit for each step.

use std::time::Duration;

use rand::RngExt as _;
use redis::RedisError;
use tokio::time::{sleep, timeout};

use super::errors::describe;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pauses between attempts to connect: they double from 20 ms to 1 s.
///
/// Each pause is a random part (50–100 %) of its step, so that nodes that lost the same Redis do
/// not all come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    next_pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next_pause: PAUSE_MIN,
        }
    }
}

impl Backoff {
    /// Begins again with the shortest pause.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Waits for the next pause.
    pub(super) async fn wait(&mut self) {
        sleep(self.take_pause()).await;
    }

    fn take_pause(&mut self) -> Duration {
        let jitter = rand::rng().random_range(0.5..1.0);
        let pause = self.next_pause.mul_f64(jitter);
        self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Runs `step` for at most `limit`. An error is the reason in words, for the log.
pub(super) async fn with_timeout<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, String> {
    match timeout(limit, step).await {
        Ok(result) => result.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no response within {limit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::default();
        for step_ms in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            let start = Instant::now();
            backoff.wait().await;
            let (least, most) = (
                Duration::from_millis(step_ms / 2),
                // Tokio's timer rounds up to a millisecond.
                Duration::from_millis(step_ms + 1),
            );
            assert!((least..=most).contains(&start.elapsed()), "{step_ms}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_without_a_reply_ends_at_its_limit() {
        let step = with_timeout::<()>(Duration::from_millis(1500), std::future::pending());
        assert_eq!(step.await, Err("no response within 1.5s".to_owned()));
    }
}
