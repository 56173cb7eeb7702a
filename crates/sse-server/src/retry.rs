//! The one retry loop for a broker that does not answer.
//!
//! A read that fails is repeated until it succeeds, because a stream never ends for lack of a
//! broker. A publish is never repeated here: only its publisher knows whether that is safe.

use std::time::Duration;

use tokio::time::sleep;

/// Pause between two attempts that a stream waits for.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Calls `attempt` until it succeeds, with a pause of `interval` after each failure.
///
/// Dropping the future ends the attempts. `attempt` logs its failures itself if they matter.
pub(crate) async fn retry_until_ok<T, E>(
    interval: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    loop {
        if let Ok(value) = attempt().await {
            return value;
        }
        sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_attempt_is_repeated_after_the_interval() {
        let started = Instant::now();
        let mut attempts = 0;
        let value = retry_until_ok(RETRY_INTERVAL, async || {
            attempts += 1;
            if attempts < 3 { Err(()) } else { Ok(attempts) }
        })
        .await;
        assert_eq!(value, 3);
        assert_eq!(started.elapsed(), RETRY_INTERVAL * 2);
    }
}
