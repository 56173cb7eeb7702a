//! Sends the next event of the payload: as a request of its own, or as part of a batch.

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    error::StartError,
    in_flight::{FinishedRequest, InFlight, RequestEvents},
    lanes::Lanes,
};
use crate::{
    payload::{EventSlot, NextEvent, Payload, Stamper, lane::Lane},
    publisher::{ExpectedResponse, Failure, Outcome, Publisher, REQUEST_TIMEOUT, retry::Retry},
    report::stats::RunStats,
    request::{BatchBuilder, CompleteBatch, OutgoingRequest, RequestBuilder, Unsendable},
    settings::Settings,
};

/// Everything between the payload and the responses.
pub(super) struct Sender {
    pub(super) payload: Payload,
    pub(super) in_flight: InFlight,
    requests: RequestBuilder,
    /// `None` if each event has a request of its own.
    batch: Option<BatchBuilder>,
    publisher: Rc<Publisher>,
    retry: Option<Rc<Retry>>,
    lanes: Lanes,
    /// Data of the event that is being sent. The buffer is reused for every event.
    data: String,
}

impl Sender {
    /// Connects to nothing yet.
    pub(super) fn new(settings: &Settings, stamper: Stamper) -> Result<Self, StartError> {
        let socket = settings.unix_socket.as_deref();
        let publisher =
            Publisher::new(&settings.url, settings.tls_trust(), socket, REQUEST_TIMEOUT)?;
        Ok(Self {
            payload: settings.build_payload(stamper)?,
            in_flight: InFlight::new(settings.concurrency),
            requests: settings.build_request_builder(),
            batch: settings.batch_size().map(BatchBuilder::new),
            publisher: Rc::new(publisher),
            retry: settings.retry.map(|retries| Rc::new(Retry::new(retries))),
            lanes: Lanes::default(),
            data: String::new(),
        })
    }

    /// Returns whether an event can be sent now: there is one, and a request may start.
    pub(super) fn is_ready(&mut self) -> bool {
        !self.in_flight.is_full() && self.payload.is_ready()
    }

    /// Sends the next event, which has number `sequence` in the run and was due at `due`. Returns
    /// the time at which it was sent; `None` if the payload has no event.
    pub(super) fn send_event(&mut self, sequence: u64, due: Instant) -> Option<Instant> {
        // Read the clocks in this order: a delay between the two makes an event look a little older
        // than it is, and never younger.
        let (now_us, now) = (unix_time_us(), Instant::now());
        let due = self.earliest_due(due);
        let due_us = now_us.saturating_sub(as_micros(now.saturating_duration_since(due)));
        let (lane, event) = self.next_event(due_us)?;
        match &mut self.batch {
            Some(batch) => {
                if let Some(complete) = batch.push(sequence, lane, due, &event, &self.data) {
                    self.send_batch(complete);
                }
            }
            None => self.send_alone(sequence, lane, due, &event),
        }
        Some(now)
    }

    /// Takes the next event of the payload, with the lane of the open batch or a free lane.
    fn next_event(&mut self, due_us: u64) -> Option<(Lane, NextEvent)> {
        let begun = self.batch.as_ref().and_then(BatchBuilder::lane);
        let lane = begun.unwrap_or_else(|| self.lanes.acquire());
        let slot = EventSlot { lane, due_us };
        let event = self.payload.next_event(slot, &mut self.data);
        if event.is_none() && begun.is_none() {
            self.lanes.release_unused(lane);
        }
        event.map(|event| (lane, event))
    }

    /// Sends the events that wait for the rest of their batch, if there are any.
    pub(super) fn send_incomplete_batch(&mut self) {
        if let Some(rest) = self.batch.as_mut().and_then(BatchBuilder::finish) {
            self.send_batch(rest);
        }
    }

    /// Frees the lane of a request that has finished.
    pub(super) fn release_lane(&mut self, finished: &FinishedRequest) {
        let FinishedRequest {
            events, outcome, ..
        } = finished;
        if events.frees_lane {
            self.lanes
                .release_after(events.lane, events.dues.len() as u64, outcome);
        }
    }

    /// Adds the counts that only the whole run knows.
    pub(super) fn count_totals(&self, stats: &mut RunStats) {
        stats.skipped = self.payload.skipped();
        if let Some(retry) = &self.retry {
            stats.sent_again = retry.sent_again();
        }
    }

    /// Returns when an event could be sent at the earliest. A recorded event that was not read yet
    /// could not be sent: that delay is not the server's.
    fn earliest_due(&self, due: Instant) -> Instant {
        self.payload
            .read_at()
            .map_or(due, |read_at| due.max(read_at.into()))
    }

    fn send_alone(&mut self, sequence: u64, lane: Lane, due: Instant, event: &NextEvent) {
        let events = RequestEvents {
            first: sequence,
            lane,
            frees_lane: true,
            dues: vec![due],
        };
        let request = self
            .requests
            .build_event_request(event, &self.data, sequence);
        match request {
            Ok(request) => self.start_request(events, self.expected_response(), request),
            Err(error) => self.fail_unsendable(events, &error),
        }
    }

    fn expected_response(&self) -> ExpectedResponse {
        if self.requests.uses_sse_server_api() {
            ExpectedResponse::Event
        } else {
            ExpectedResponse::AnySuccess
        }
    }

    fn fail_unsendable(&mut self, events: RequestEvents, error: &Unsendable) {
        let outcome = Outcome::NotStored(Failure::Unsendable(error.to_string()));
        let finished = std::future::ready((None, outcome));
        self.in_flight.push(events, finished);
    }

    fn send_batch(&mut self, batch: CompleteBatch) {
        let events = RequestEvents {
            first: batch.first,
            lane: batch.lane,
            frees_lane: batch.frees_lane,
            dues: batch.dues,
        };
        let expected = ExpectedResponse::Batch(events.dues.len() as u64);
        let request = self.requests.build_batch_request(batch.lines);
        self.start_request(events, expected, request);
    }

    fn start_request(
        &mut self,
        events: RequestEvents,
        expected: ExpectedResponse,
        request: OutgoingRequest,
    ) {
        let publisher = Rc::clone(&self.publisher);
        if let Some(retry) = self.retry.clone() {
            self.in_flight.push(events, async move {
                retry.send_with_retries(&publisher, expected, request).await
            });
        } else {
            self.in_flight.push(events, async move {
                let response = publisher.send(request).await;
                let status = response.as_ref().ok().map(|response| response.status);
                (status, Outcome::from_result(expected, response))
            });
        }
    }
}

/// Returns the time in microseconds since the Unix epoch; 0 before 1970.
fn unix_time_us() -> u64 {
    as_micros(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
