//! Received bytes to the head of a response, to events, or to the message of a rejection.

use std::time::Instant;

use super::{
    close_reason::CloseReason,
    state::{LoadConnection, Phase, StreamEnd},
};
use crate::load::{
    body::{BodyDecoder, BodyPart},
    collector::{Collector, wall_clock_us},
    event_reader::Scratch,
    head::{HEAD_BYTES_MAX, HeadError, parse_head},
    publishers::FirstOpen,
    response::{Rejection, ResponseKind},
    stats::ConnectStats,
};

/// Limit of bytes that are read of a rejection's body.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

impl LoadConnection {
    /// Processes bytes that were read at `now`. Returns a reason if the connection must be closed.
    pub(super) fn process_bytes(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        match &mut self.phase {
            Phase::Head { so_far } if so_far.is_empty() => {
                let first_byte = self.connect_started.elapsed();
                collector.stats.first_byte.record(first_byte);
                self.process_head(bytes, scratch, collector, now)
            }
            Phase::Head { so_far } => {
                let mut head = std::mem::take(so_far);
                head.extend_from_slice(bytes);
                self.process_head(&head, scratch, collector, now)
            }
            Phase::Streaming(_) => self.process_events(bytes, scratch, collector, now),
            Phase::Rejected { body, message, .. } => {
                let ended = append_message(body, message, bytes);
                ended.then(|| self.end_of_input())
            }
            Phase::Waiting | Phase::Sending { .. } | Phase::Done => None,
        }
    }

    /// Processes all bytes of the response so far.
    fn process_head(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        let head = match parse_head(bytes) {
            Ok(Some(head)) => head,
            Ok(None) if bytes.len() < HEAD_BYTES_MAX => {
                self.phase = Phase::Head {
                    so_far: bytes.to_vec(),
                };
                return None;
            }
            Ok(None) => return Some(CloseReason::Broken(HeadError::TooLarge.kind())),
            Err(error) => return Some(CloseReason::Broken(error.kind())),
        };
        let rest = &bytes[head.end..];
        self.accept_response(head.response, head.body, rest, scratch, collector, now)
    }

    /// Continues with the body of a response, which begins with `rest`.
    pub(super) fn accept_response(
        &mut self,
        response: ResponseKind,
        body: BodyDecoder,
        rest: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        match response {
            ResponseKind::NoContent => Some(CloseReason::NoContent),
            ResponseKind::Rejected(rejection) => {
                let rejections = &mut collector.stats.connects.rejections;
                if rejections.count_rejection(&rejection.kind) {
                    self.begin_message(rejection, body, rest, now)
                } else {
                    Some(CloseReason::Rejected(rejection, Vec::new()))
                }
            }
            ResponseKind::Stream => {
                self.phase = Phase::Streaming(body);
                self.count_open(collector, now);
                self.process_events(rest, scratch, collector, now)
            }
        }
    }

    fn begin_message(
        &mut self,
        rejection: Rejection,
        mut body: BodyDecoder,
        bytes: &[u8],
        now: Instant,
    ) -> Option<CloseReason> {
        let mut message = Vec::new();
        let ended = append_message(&mut body, &mut message, bytes);
        self.phase = Phase::Rejected {
            rejection,
            body,
            message,
            since: now,
        };
        ended.then(|| self.end_of_input())
    }

    fn count_open(&mut self, collector: &mut Collector, now: Instant) {
        let stats = &mut collector.stats;
        stats.open.record(self.connect_started.elapsed());
        self.last_opened = now;
        self.node_offset = 0;
        let interruptions = &mut self.received.interruptions;
        interruptions.opens = interruptions.opens.wrapping_add(1);
        self.count_connect(&mut stats.connects, now);
        match self.lost_stream.take() {
            Some((since, StreamEnd::Cut)) => stats.back_after_cut.record(since.elapsed()),
            Some((since, StreamEnd::Ended)) => stats.back_after_end.record(since.elapsed()),
            None => {}
        }
    }

    fn count_connect(&mut self, connects: &mut ConnectStats, now: Instant) {
        connects.opened += 1;
        if self.first_opened.is_none() {
            self.first_opened = Some(FirstOpen {
                at: now,
                at_us: wall_clock_us(),
            });
            connects.ever_open += 1;
        } else if self.sent_last_event_id {
            connects.resumed += 1;
        } else {
            connects.reopened_without_id += 1;
        }
    }

    fn process_events(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        let events_before = collector.stats.events;
        let reason = self.decode_events(bytes, scratch, collector, now);
        let stats = &mut collector.stats;
        if stats.events != events_before {
            let first = stats.receiving.map_or(now, |(first, _)| first);
            stats.receiving = Some((first, now));
        }
        if self.received.has_enough(&collector.rules) {
            Some(CloseReason::Enough)
        } else {
            reason
        }
    }

    fn decode_events(
        &mut self,
        mut bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<CloseReason> {
        let Self {
            phase: Phase::Streaming(body),
            reader,
            received,
            ..
        } = self
        else {
            return None;
        };
        let now_us = wall_clock_us();
        loop {
            match body.next_part(bytes) {
                Ok(BodyPart::Data(data, left)) => {
                    let pushed = reader.push(scratch, data, |item| {
                        received.collect_item(item, collector, now, now_us);
                    });
                    if pushed.is_err() {
                        let kind = "an event is larger than --max-event-size";
                        return Some(CloseReason::Broken(kind));
                    }
                    bytes = left;
                }
                Ok(BodyPart::NeedsMore) => return None,
                Ok(BodyPart::Ended) => return Some(CloseReason::Ended),
                Err(_not_chunked) => {
                    let kind = "the body is not chunked as HTTP requires";
                    return Some(CloseReason::Broken(kind));
                }
            }
        }
    }
}

/// Appends to the message of a rejection. Returns `true` if nothing more needs to be read.
fn append_message(body: &mut BodyDecoder, message: &mut Vec<u8>, mut bytes: &[u8]) -> bool {
    loop {
        match body.next_part(bytes) {
            Ok(BodyPart::Data(data, left)) => {
                let room = MESSAGE_BYTES_MAX - message.len();
                message.extend_from_slice(&data[..data.len().min(room)]);
                if message.len() == MESSAGE_BYTES_MAX {
                    return true;
                }
                bytes = left;
            }
            Ok(BodyPart::NeedsMore) => return false,
            Ok(BodyPart::Ended) | Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_body_or_at_its_limit() {
        let (mut body, mut message) = (BodyDecoder::Length(6), Vec::new());
        assert!(!append_message(&mut body, &mut message, b"bu"));
        assert!(append_message(&mut body, &mut message, b"sy!!rest"));
        assert_eq!(message, b"busy!!");
        let (mut body, mut message) = (BodyDecoder::UntilClose, Vec::new());
        let endless = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        assert!(append_message(&mut body, &mut message, &endless));
        assert_eq!(message.len(), MESSAGE_BYTES_MAX);
    }
}
