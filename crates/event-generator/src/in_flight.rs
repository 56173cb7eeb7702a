//! Requests that wait for their answers: so many at a time, and each known by the number of its event.

use std::{collections::BTreeSet, future::Future, mem, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::outcome::Outcome;

/// Requests at a time. Beyond them the schedule waits, and what it then sends late has that delay in its latency.
const REQUESTS_MAX: usize = 256;

/// The requests of one run. They make progress only while someone waits in [`next`](Self::next).
#[derive(Default)]
pub(crate) struct InFlight {
    requests: FuturesUnordered<LocalBoxFuture<'static, Answered>>,
    sequences: BTreeSet<u64>,
}

/// A request that has ended.
pub(crate) struct Answered {
    /// The number of its event.
    pub(crate) sequence: u64,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// How long after it was due.
    pub(crate) latency: Duration,
}

impl InFlight {
    /// Whether no more request may start now.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= REQUESTS_MAX
    }

    /// Whether no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Starts the request of an event that was due at `due`.
    pub(crate) fn push(&mut self, sequence: u64, due: Instant, request: impl Future<Output = Outcome> + 'static) {
        let answered = request.map(move |outcome| Answered { sequence, outcome, latency: due.elapsed() });
        self.requests.push(answered.boxed_local());
        self.sequences.insert(sequence);
    }

    /// The next request to end; none if there is none. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Answered> {
        let answered = self.requests.next().await?;
        self.sequences.remove(&answered.sequence);
        Some(answered)
    }

    /// Gives up on all of them: the numbers of their events, in order.
    pub(crate) fn abandon(&mut self) -> BTreeSet<u64> {
        self.requests.clear();
        mem::take(&mut self.sequences)
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;
    use crate::outcome::Failure;

    #[tokio::test]
    async fn what_was_not_answered_is_known_when_it_is_abandoned() {
        let mut in_flight = InFlight::default();
        in_flight.push(0, Instant::now(), future::pending());
        in_flight.push(1, Instant::now(), future::ready(Outcome::Refused(Failure::Stopped)));
        in_flight.push(2, Instant::now(), future::pending());
        assert_eq!(in_flight.next().await.map(|answered| answered.sequence), Some(1));
        assert_eq!(in_flight.abandon(), BTreeSet::from([0, 2]));
        assert!(in_flight.is_empty() && in_flight.next().await.is_none());
    }

    #[tokio::test]
    async fn requests_are_bounded() {
        let mut in_flight = InFlight::default();
        for sequence in 0..256 {
            assert!(!in_flight.is_full());
            in_flight.push(sequence, Instant::now(), future::ready(Outcome::Refused(Failure::Stopped)));
        }
        assert!(in_flight.is_full());
        in_flight.next().await;
        assert!(!in_flight.is_full());
    }
}
