//! Requests that wait for their responses, limited in number.

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

/// The requests in flight. They make progress only during [`next_finished`](Self::next_finished)
/// and [`poll_finished`](Self::poll_finished).
pub(crate) struct InFlight {
    requests: FuturesUnordered<LocalBoxFuture<'static, FinishedRequest>>,
    /// Number of events and lane of each request, by the number of its first event.
    events: BTreeMap<u64, (u64, Lane)>,
    /// Highest number of requests. At this number the schedule waits, and the delay counts as
    /// latency of the late events.
    max: usize,
}

/// The events of a request.
#[derive(Debug)]
pub(crate) struct RequestEvents {
    /// Number of the first event in the run. The other events follow it.
    pub(crate) first: u64,
    /// Lane of the events, and the number of the first event in it.
    pub(crate) lane: Lane,
    /// Whether the lane is free once the request has finished: no later event has a number in it.
    pub(crate) frees_lane: bool,
    /// When each event was due.
    pub(crate) dues: Vec<Instant>,
}

/// A request that has finished.
#[derive(Debug)]
pub(crate) struct FinishedRequest {
    /// Events of the request.
    pub(crate) events: RequestEvents,
    /// Status of the response; `None` without a response.
    pub(crate) status: Option<StatusCode>,
    /// Outcome of the events.
    pub(crate) outcome: Outcome,
    /// When the request finished.
    pub(crate) at: Instant,
}

impl InFlight {
    /// Allows `max` requests at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            requests: FuturesUnordered::new(),
            events: BTreeMap::new(),
            max,
        }
    }

    /// Returns whether no further request may start.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= self.max
    }

    /// Returns whether no request is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the number of requests in flight.
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

    /// Waits for the next request that finishes. Returns `None` if none is in flight. Cancel safe.
    pub(crate) async fn next_finished(&mut self) -> Option<FinishedRequest> {
        let finished = self.requests.next().await?;
        self.events.remove(&finished.events.first);
        Some(finished)
    }

    /// Returns a request that has finished already. Starts the requests that were pushed.
    ///
    /// The task is not woken later: if this returns `None`, the caller must wait in
    /// [`next_finished`](Self::next_finished).
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

    /// Drops all requests. Returns the numbers of their events and their lanes, in order.
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

    fn not_stored() -> (Option<StatusCode>, Outcome) {
        (None, Outcome::NotStored(Failure::Stopped))
    }

    #[tokio::test]
    async fn abandoned_requests_are_known_by_the_numbers_of_their_events() {
        let mut in_flight = InFlight::new(256);
        in_flight.push(events(0, 1), future::pending());
        in_flight.push(events(1, 2), future::ready(not_stored()));
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
    async fn the_number_of_requests_is_limited() {
        let mut in_flight = InFlight::new(16);
        for first in 0..16 {
            assert!(!in_flight.is_full());
            in_flight.push(events(first, 1), future::ready(not_stored()));
        }
        assert!(in_flight.is_full());
        assert!(in_flight.poll_finished().is_some() && !in_flight.is_full());
    }
}
