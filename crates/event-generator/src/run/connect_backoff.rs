//! Pause after connections that failed, for a closed loop.
//!
//! Without a pause, a closed loop would connect thousands of times per second to a port that no
//! server listens on. Pure: the caller passes the time, and waits.

use std::time::Duration;

use sse_cli::backoff::Backoff;
use tokio::time::Instant;

use crate::publisher::{FailureKind, Outcome};

/// Pauses after failures. The longest is short, so that a server that comes back is soon found.
const BACKOFF: Backoff = Backoff {
    pause_min: Duration::from_millis(50),
    pause_max: Duration::from_secs(1),
};

/// Pause that doubles with each failure after a pause. The first response of any kind ends it.
#[derive(Debug, Default)]
pub(crate) struct ConnectBackoff {
    /// End of the pause, and the number of pauses directly before it.
    pause: Option<(Instant, u32)>,
}

impl ConnectBackoff {
    /// Records the outcome of a request that finished at `now`.
    pub(crate) fn observe(&mut self, outcome: &Outcome, now: Instant) {
        let failure = match outcome {
            Outcome::Acknowledged(_) => None,
            Outcome::NotStored(failure) | Outcome::Unknown(failure) => Some(failure.kind()),
        };
        self.pause = match (failure, self.pause) {
            (Some(FailureKind::Connect), None) => Some((now + BACKOFF.pause_after(0), 0)),
            // Many requests fail together: count only the first one.
            (Some(FailureKind::Connect), Some((until, before))) if until <= now => {
                let before = before.saturating_add(1);
                Some((now + BACKOFF.pause_after(before), before))
            }
            (Some(FailureKind::Connect | FailureKind::Unsendable), pause) => pause,
            _ => None,
        };
    }

    /// Returns the end of the pause. No request may start before it.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.pause.map(|(until, _)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::{Failure, Ids};

    const PAUSE: Duration = BACKOFF.pause_min;

    fn not_connected() -> Outcome {
        Outcome::NotStored(Failure::Connect("refused".to_owned()))
    }

    #[test]
    fn pauses_double_up_to_a_second_and_count_a_burst_once() {
        let (mut backoff, mut now) = (ConnectBackoff::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            backoff.observe(&not_connected(), now);
            backoff.observe(&not_connected(), now + Duration::from_millis(1));
            let until = backoff.paused_until().unwrap();
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_response_ends_the_pause_and_makes_the_next_one_short() {
        let (mut backoff, now) = (ConnectBackoff::default(), Instant::now());
        backoff.observe(&not_connected(), now);
        backoff.observe(&not_connected(), now + PAUSE);
        backoff.observe(&Outcome::Acknowledged(Ids::NotReported), now + PAUSE);
        assert_eq!(backoff.paused_until(), None);
        backoff.observe(&not_connected(), now + PAUSE);
        assert_eq!(backoff.paused_until(), Some(now + 2 * PAUSE));
        backoff.observe(&Outcome::Unknown(Failure::Timeout), now + PAUSE);
        assert_eq!(backoff.paused_until(), None);
    }
}
