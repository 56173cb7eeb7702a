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
// `attempt` is not an `AsyncFnMut`: the compiler cannot prove that the future of an async closure
// which borrows is `Send`, and most callers spawn this future.
pub(crate) async fn retry_until_ok<T, E, F>(interval: Duration, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
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
        let value = retry_until_ok(RETRY_INTERVAL, || {
            attempts += 1;
            std::future::ready(if attempts < 3 { Err(()) } else { Ok(attempts) })
        })
        .await;
        assert_eq!(value, 3);
        assert_eq!(started.elapsed(), RETRY_INTERVAL * 2);
    }
}
