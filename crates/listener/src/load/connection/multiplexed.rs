//! Reading a stream of a connection that several share.

use std::{task::Poll, time::Instant};

use http::response::Parts;

use super::{
    close_reason::{CloseReason, http2_error_kind},
    io::{IoOutcome, ReadBuffers},
    link::Link,
    state::{LoadConnection, Phase},
};
use crate::load::{
    body::BodyDecoder,
    collector::Collector,
    event_reader::Scratch,
    http2::StreamPart,
    response::{ResponseKind, classify},
};

impl LoadConnection {
    /// Reads all parts of the response that have arrived.
    pub(crate) fn read_stream(
        &mut self,
        buffers: &mut ReadBuffers,
        collector: &mut Collector,
        now: Instant,
    ) -> IoOutcome {
        let scratch = &mut buffers.scratch;
        loop {
            let Some(Link::Shared(stream)) = &mut self.link else {
                return IoOutcome::Wait;
            };
            let closed = match stream.poll_part() {
                Poll::Pending => return IoOutcome::Wait,
                Poll::Ready(Ok(StreamPart::Head(head))) => {
                    self.begin_response(&head, scratch, collector, now)
                }
                Poll::Ready(Ok(StreamPart::Data(data))) => {
                    self.last_received = now;
                    self.process_bytes(&data, scratch, collector, now)
                }
                Poll::Ready(Ok(StreamPart::End)) => Some(self.end_of_input()),
                Poll::Ready(Err(error)) => Some(self.read_error(http2_error_kind(&error))),
            };
            if let Some(reason) = closed {
                return IoOutcome::Close(reason);
            }
        }
    }

    fn begin_response(
        &mut self,
        head: &Parts,
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        self.last_received = now;
        let first_byte = self.connect_started.elapsed();
        collector.stats.first_byte.record(first_byte);
        self.accept_response(
            classify_head(head),
            BodyDecoder::UntilClose,
            &[],
            scratch,
            collector,
            now,
        )
    }

    /// Returns `true` if the request waits for its connection.
    pub(crate) const fn is_queued(&self) -> bool {
        matches!(
            (&self.link, &self.phase),
            (Some(Link::Shared(_)), Phase::Sending { .. })
        )
    }
}

fn classify_head(head: &Parts) -> ResponseKind {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| httparse::Header {
            name: name.as_str(),
            value: value.as_bytes(),
        })
        .collect();
    classify(head.status.as_u16(), &headers)
}
