//! Drain: the streams of a server that is about to stop end one after another, so that their clients
//! do not reconnect at the same moment.
//!
//! ```text
//! SIGTERM ─────────────────────── --drain ───────────────────────► the server stops
//!         end  end  end  end  end  end  end  end  end  end    rest
//!         └── each stream at its own moment, at the end of a block │
//!                                                                  └── for blocks that are blocked
//! ```
//!
//! The moments are multiples of the golden ratio, modulo the time of the drain. Any number of
//! streams is spread evenly that way, without knowing how many there are.
//!
//! A client of a node on Redis reconnects to another node at once. An in-process log is away until
//! the server is back, so `retry:` is longer than the drain then. It is the same for every stream,
//! and so the clients return as evenly as they left.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

/// Part of the time that is left for blocks that take long to write, and its maximum.
const REST_PART: u32 = 10;
const REST_MAX: Duration = Duration::from_secs(2);
/// 2³² divided by the golden ratio.
const GOLDEN_STEP: u32 = 0x9E37_79B9;

/// The drain of a server, which may have begun; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    started: CancellationToken,
    plan: OnceLock<DrainPlan>,
    /// Streams that have a moment for their end.
    planned: AtomicU32,
}

/// How long a drain takes, and when clients reconnect.
#[derive(Debug, Clone, Copy)]
pub struct DrainPlan {
    /// When the drain began.
    pub start: Instant,
    /// Time from then until the server stops.
    pub length: Duration,
    /// Value of `retry:` at the end of a stream; `None` if the client keeps the one it has.
    pub retry: Option<Duration>,
}

impl Drain {
    /// Begins the drain. Only the first call has an effect.
    pub fn start(&self, plan: DrainPlan) {
        let _ = self.0.plan.set(plan);
        self.0.started.cancel();
    }

    /// Returns how the drain is planned; `None` if it has not begun.
    #[must_use]
    pub fn plan(&self) -> Option<&DrainPlan> {
        self.0.plan.get()
    }

    /// Waits until the drain begins.
    pub(super) async fn started(&self) {
        self.0.started.cancelled().await;
    }

    /// Waits until the drain has begun, and then for the end of one more stream.
    pub(crate) async fn next_end_reached(&self) {
        self.started().await;
        if let Some(end) = self.next_end(Instant::now()) {
            tokio::time::sleep_until(end.into()).await;
        }
    }

    /// Returns when one more stream ends; `None` if the drain has not begun.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        let plan = self.plan()?;
        // The first stream must not end at once.
        let number = self
            .0
            .planned
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        let part = number.wrapping_mul(GOLDEN_STEP);
        Some(plan.moment(now, f64::from(part) / f64::from(u32::MAX)))
    }
}

impl DrainPlan {
    /// Returns the moment at a part, from 0 to 1, of the time that streams have to end.
    fn moment(&self, now: Instant, part: f64) -> Instant {
        let rest = (self.length / REST_PART).min(REST_MAX);
        let last = self.start + self.length.saturating_sub(rest);
        let start = now.clamp(self.start, last);
        start + (last - start).mul_f64(part.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(length: Duration) -> DrainPlan {
        DrainPlan {
            start: Instant::now(),
            length,
            retry: None,
        }
    }

    #[test]
    fn no_second_has_more_than_twice_the_average_number_of_ends() {
        for streams in [10, 100, 317, 5000] {
            let (drain, plan) = (Drain::default(), plan(Duration::from_secs(10)));
            assert_eq!(drain.next_end(plan.start), None);
            drain.start(plan);
            let mut per_second = [0; 10];
            for _ in 0..streams {
                let end = drain.next_end(plan.start).unwrap() - plan.start;
                assert!(end <= Duration::from_secs(9), "{end:?}");
                per_second[usize::try_from(end.as_millis() / 1000).unwrap().min(9)] += 1;
            }
            let most = per_second.into_iter().max().unwrap();
            assert!(most * 9 <= streams * 2, "{streams}: {per_second:?}");
        }
    }

    #[test]
    fn a_stream_that_opens_late_ends_within_what_is_left() {
        let plan = plan(Duration::from_secs(10));
        let late = plan.start + Duration::from_secs(8);
        assert_eq!(plan.moment(late, 0.0), late);
        assert_eq!(plan.moment(late, 1.0), late + Duration::from_secs(1));
        let too_late = plan.start + Duration::from_secs(20);
        assert_eq!(
            plan.moment(too_late, 0.5),
            plan.start + Duration::from_secs(9)
        );
    }

    #[tokio::test]
    async fn all_clones_begin_at_once() {
        let drain = Drain::default();
        let other = drain.clone();
        drain.start(plan(Duration::from_secs(1)));
        other.started().await;
        assert!(other.plan().is_some());
    }
}
