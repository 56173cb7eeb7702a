//! The state of one connection.

use std::time::{Duration, Instant};

use super::{close_reason::CloseReason, link::Link};
use crate::load::{
    body::BodyDecoder, collector::ReceivedEvents, event_reader::EventReader, publishers::FirstOpen,
    response::Rejection,
};

/// A connection and its history.
#[derive(Debug)]
pub(crate) struct LoadConnection {
    pub(crate) link: Option<Link>,
    pub(crate) phase: Phase,
    /// When the last connect began.
    pub(crate) connect_started: Instant,
    /// When bytes arrived last.
    pub(crate) last_received: Instant,
    /// When the stream opened for the first time.
    pub(crate) first_opened: Option<FirstOpen>,
    /// When the stream opened last.
    pub(crate) last_opened: Instant,
    /// When and how the previous stream ended, until the next one opens.
    pub(crate) lost_stream: Option<(Instant, StreamEnd)>,
    /// The first attempt to connect has ended.
    pub(crate) was_tried: bool,
    /// The request contains a last event id.
    pub(crate) sent_last_event_id: bool,
    /// The engine counts the connection among those in a handshake.
    pub(crate) in_handshake: bool,
    /// Failures in a row, for the back-off.
    pub(crate) failures: u32,
    /// Attempts in a row without a stream. Each moves the connection to the next node.
    pub(crate) node_offset: u32,
    pub(crate) reader: EventReader,
    pub(crate) received: ReceivedEvents,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// It was cut by `--cut-every`.
    Cut,
    /// The server, the network or a timeout ended it.
    Ended,
}

/// What a connection waits for.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The next connect.
    Waiting,
    /// The connection to be established, and to accept the rest of the request.
    Sending { request: Vec<u8>, sent: usize },
    /// The rest of the response's head.
    Head { so_far: Vec<u8> },
    /// Events.
    Streaming(BodyDecoder),
    /// The message in the body of a rejection.
    Rejected {
        rejection: Rejection,
        body: BodyDecoder,
        message: Vec<u8>,
        since: Instant,
    },
    /// Nothing: the connection is not made again.
    Done,
}

/// Limits of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// For the connection to be established.
    pub(crate) connect: Duration,
    /// Without any bytes.
    pub(crate) idle: Duration,
    /// For the message of a rejection.
    pub(crate) message: Duration,
}

impl LoadConnection {
    /// A connection that was not made yet.
    pub(crate) fn new(reader: EventReader, now: Instant) -> Self {
        Self {
            link: None,
            phase: Phase::Waiting,
            connect_started: now,
            last_received: now,
            first_opened: None,
            last_opened: now,
            lost_stream: None,
            was_tried: false,
            sent_last_event_id: false,
            in_handshake: false,
            failures: 0,
            node_offset: 0,
            reader,
            received: ReceivedEvents::default(),
        }
    }

    pub(crate) const fn has_stream(&self) -> bool {
        matches!(self.phase, Phase::Streaming(_))
    }

    /// Returns `true` while the connection waits for its establishment or for a response.
    pub(crate) const fn awaits_response(&self) -> bool {
        matches!(self.phase, Phase::Sending { .. } | Phase::Head { .. })
    }

    /// Returns `true` while the connection is established, or its request is sent.
    pub(crate) const fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Sending { .. })
    }

    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Closes the socket, or resets the stream of a shared one, and drops the unfinished block.
    pub(crate) fn close(&mut self, next_phase: Phase) {
        self.link = None;
        self.phase = next_phase;
        self.was_tried = true;
        self.reader.disconnect();
    }

    /// Returns why the connection must be closed, if one of its time limits is exceeded.
    pub(crate) fn check_time_limits(
        &mut self,
        now: Instant,
        limits: &TimeLimits,
    ) -> Option<CloseReason> {
        let since = |then: Instant| now.saturating_duration_since(then);
        match &self.phase {
            Phase::Sending { .. } if since(self.connect_started) >= limits.connect => {
                Some(CloseReason::Broken("timed out"))
            }
            Phase::Head { .. } if since(self.connect_started) >= limits.idle => {
                Some(CloseReason::Broken("no response within --idle-timeout"))
            }
            Phase::Streaming(_) if since(self.last_received) >= limits.idle => {
                Some(CloseReason::Broken("no bytes for --idle-timeout"))
            }
            Phase::Rejected { since: begun, .. } if since(*begun) >= limits.message => {
                Some(self.end_of_input())
            }
            _ => None,
        }
    }

    /// Returns the reason to close at the end of the input, or of a rejection's message.
    pub(super) fn end_of_input(&mut self) -> CloseReason {
        match &mut self.phase {
            Phase::Rejected {
                rejection, message, ..
            } => CloseReason::Rejected(rejection.clone(), std::mem::take(message)),
            Phase::Streaming(body) if body.may_end() => CloseReason::Ended,
            Phase::Streaming(_) => {
                CloseReason::Broken("the connection was closed in the middle of the response")
            }
            _ => CloseReason::Broken("the connection was closed without a response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TimeLimits = TimeLimits {
        connect: Duration::from_secs(10),
        idle: Duration::from_secs(45),
        message: Duration::from_secs(2),
    };

    fn reason_after(phase: Phase, seconds: u64) -> Option<&'static str> {
        let start = Instant::now();
        let mut connection = LoadConnection::new(EventReader::new(1 << 20), start);
        connection.phase = phase;
        let now = start + Duration::from_secs(seconds);
        match connection.check_time_limits(now, &LIMITS) {
            Some(CloseReason::Broken(kind)) => Some(kind),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_phase_has_its_own_time_limit() {
        let sending = || Phase::Sending {
            request: Vec::new(),
            sent: 0,
        };
        let head = || Phase::Head { so_far: Vec::new() };
        let streaming = || Phase::Streaming(BodyDecoder::UntilClose);
        assert_eq!(reason_after(sending(), 9), None);
        assert_eq!(reason_after(sending(), 10), Some("timed out"));
        assert_eq!(reason_after(head(), 44), None);
        assert!(reason_after(head(), 45).is_some() && reason_after(streaming(), 45).is_some());
        assert_eq!(reason_after(Phase::Waiting, 1_000), None);
    }

    #[test]
    fn a_stream_may_end_only_where_its_body_does() {
        let mut connection = LoadConnection::new(EventReader::new(1 << 20), Instant::now());
        connection.phase = Phase::Streaming(BodyDecoder::UntilClose);
        assert!(matches!(connection.end_of_input(), CloseReason::Ended));
        connection.phase = Phase::Streaming(BodyDecoder::CHUNKED);
        assert!(matches!(connection.end_of_input(), CloseReason::Broken(_)));
    }
}
