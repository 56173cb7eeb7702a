//! Requests that wait for their answers: so many at a time, and each known by the numbers of its events.

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    ops::Range,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use hyper::StatusCode;
use tokio::time::Instant;

use crate::{payload::lane::Lane, publisher::Outcome};

/// The requests of one run. They make progress only while someone waits in [`next_finished`](Self::next_finished).
pub(crate) struct InFlight {
    requests: FuturesUnordered<LocalBoxFuture<'static, FinishedRequest>>,
    /// By the number of its first event: how many each request has, and in which lane.
    events: BTreeMap<u64, (u64, Lane)>,
    /// Requests at a time. Beyond them the schedule waits, and what it then sends late has that delay in its latency.
    max: usize,
}

/// The events of a request.
#[derive(Debug)]
pub(crate) struct RequestEvents {
    /// The number of the first in the run; the others follow.
    pub(crate) first: u64,
    /// Their lane, with the number of the first in it.
    pub(crate) lane: Lane,
    /// The lane is free when the request has ended: nothing more was given a number in it.
    pub(crate) frees_lane: bool,
    /// When each was due.
    pub(crate) dues: Vec<Instant>,
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct FinishedRequest {
    /// Its events.
    pub(crate) events: RequestEvents,
    /// The status that was answered, if any was.
    pub(crate) status: Option<StatusCode>,
    /// What became of its events.
    pub(crate) outcome: Outcome,
    /// When it ended.
    pub(crate) at: Instant,
}

impl InFlight {
    /// For so many requests at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            requests: FuturesUnordered::new(),
            events: BTreeMap::new(),
            max,
        }
    }

    /// Whether no more request may start now.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= self.max
    }

    /// Whether no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Starts a request.
    pub(crate) fn push(
        &mut self,
        events: RequestEvents,
        request: impl Future<Output = (Option<StatusCode>, Outcome)> + 'static,
    ) {
        self.events
            .insert(events.first, (events.dues.len() as u64, events.lane));
        let finished = request.map(move |(status, outcome)| FinishedRequest {
            events,
            status,
            outcome,
            at: Instant::now(),
        });
        self.requests.push(finished.boxed_local());
    }

    /// The next request to end; none if there is none. Nothing is lost when the wait is given up.
    pub(crate) async fn next_finished(&mut self) -> Option<FinishedRequest> {
        let finished = self.requests.next().await?;
        self.events.remove(&finished.events.first);
        Some(finished)
    }

    /// A request that has ended already. Also starts those that were pushed.
    ///
    /// Wakes nobody: whoever finds nothing must wait in [`next_finished`](Self::next_finished).
    pub(crate) fn poll_finished(&mut self) -> Option<FinishedRequest> {
        let poll = self
            .requests
            .poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(finished)) = poll else {
            return None;
        };
        self.events.remove(&finished.events.first);
        Some(finished)
    }

    /// Gives up on all of them: the numbers of the events of each in the run, and their lane; in order.
    pub(crate) fn abandon_all(&mut self) -> Vec<(Range<u64>, Lane)> {
        self.requests.clear();
        mem::take(&mut self.events)
            .into_iter()
            .map(|(first, (count, lane))| (first..first + count, lane))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;
    use crate::publisher::Failure;

    const LANE: Lane = Lane { number: 7, next: 0 };

    fn events(first: u64, count: usize) -> RequestEvents {
        RequestEvents {
            first,
            lane: LANE,
            frees_lane: true,
            dues: vec![Instant::now(); count],
        }
    }

    fn refused() -> (Option<StatusCode>, Outcome) {
        (None, Outcome::NotStored(Failure::Stopped))
    }

    #[tokio::test]
    async fn what_was_not_answered_is_known_when_it_is_abandoned() {
        let mut in_flight = InFlight::new(256);
        in_flight.push(events(0, 1), future::pending());
        in_flight.push(events(1, 2), future::ready(refused()));
        in_flight.push(events(3, 5), future::pending());
        assert_eq!(
            in_flight
                .next_finished()
                .await
                .map(|finished| finished.events.first),
            Some(1)
        );
        assert!(in_flight.poll_finished().is_none());
        assert_eq!(in_flight.abandon_all(), [(0..1, LANE), (3..8, LANE)]);
        assert!(in_flight.is_empty() && in_flight.next_finished().await.is_none());
    }

    #[tokio::test]
    async fn requests_are_bounded() {
        let mut in_flight = InFlight::new(16);
        for first in 0..16 {
            assert!(!in_flight.is_full());
            in_flight.push(events(first, 1), future::ready(refused()));
        }
        assert!(in_flight.is_full());
        assert!(in_flight.poll_finished().is_some() && !in_flight.is_full());
    }
}
