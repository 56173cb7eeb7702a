//! One connection: what it waits for, and what it makes of the bytes that come.
//!
//! It never waits itself and knows no timer: the engine says when something can be read or written, and what is over by
//! the clock.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use mio::net::TcpStream;

use super::{
    body::{Body, Part},
    collector::{Collector, ReceivedEvents, wall_clock_us},
    events::{EventReader, Scratch},
    head::{self, BadHead, HEAD_BYTES_MAX, Refusal, ResponseKind},
    publishers::FirstOpen,
};

/// What a connection may read in one turn, so that the others get theirs.
const TURN_BYTES_MAX: usize = 256 << 10;
/// Of the body of a refusal, so much is read for its message.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// epoll says again when more has come after a read that did not fill its buffer; others may need to see `WouldBlock`.
const SHORT_READ_IS_ALL: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A connection, and what it has been through.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Option<TcpStream>,
    pub(crate) phase: Phase,
    /// When the connect began.
    pub(crate) asked: Instant,
    /// When bytes came last.
    pub(crate) active: Instant,
    /// When its stream opened for the first time.
    pub(crate) first_opened: Option<FirstOpen>,
    /// When its stream opened last.
    pub(crate) opened: Instant,
    /// When and how the stream before was lost, until there is another.
    pub(crate) lost: Option<(Instant, Loss)>,
    /// An attempt was made, and is over.
    pub(crate) tried: bool,
    /// The request that was sent has a last event id.
    pub(crate) asked_with_id: bool,
    /// It is among those whose handshakes are in flight.
    pub(crate) in_flight: bool,
    /// Failures in a row, for the back-off.
    pub(crate) failures: u32,
    /// Attempts that led to no stream, in a row: they lead to the next node.
    pub(crate) detours: u32,
    pub(crate) reader: EventReader,
    pub(crate) received: ReceivedEvents,
}

/// Who lost a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// We cut it.
    Cut,
    /// The server, the network, or a time-out.
    Ended,
}

/// What a connection waits for.
#[derive(Debug)]
pub(crate) enum Phase {
    /// To be made, or made again.
    Waiting,
    /// To be connected, and to take the rest of the request.
    Sending { request: Vec<u8>, sent: usize },
    /// The head of the answer.
    Head { so_far: Vec<u8> },
    /// Events.
    Streaming(Body),
    /// The message in the body of a refusal.
    Refused {
        refusal: Refusal,
        body: Body,
        message: Vec<u8>,
        since: Instant,
    },
    /// Nothing: it is over for good.
    Done,
}

/// What a turn has led to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It waits for the socket.
    Wait,
    /// There may be more to read, but it is others' turn.
    Again,
    /// The connection is over.
    Over(Over),
}

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Over {
    /// The server ended the stream in good order.
    Ended,
    /// It broke, for this reason.
    Broken(&'static str),
    /// It was no stream; what the server said about it, if that was read.
    Refused(Refusal, Vec<u8>),
    /// There is nothing more (204).
    NoContent,
    /// It has all that it is to get.
    Enough,
}

impl Connection {
    /// One that was not made yet.
    pub(crate) fn new(reader: EventReader, now: Instant) -> Self {
        Self {
            socket: None,
            phase: Phase::Waiting,
            asked: now,
            active: now,
            first_opened: None,
            opened: now,
            lost: None,
            tried: false,
            asked_with_id: false,
            in_flight: false,
            failures: 0,
            detours: 0,
            reader,
            received: ReceivedEvents::default(),
        }
    }

    /// Sends what is left of the request.
    pub(crate) fn write(&mut self) -> Turn {
        let (Some(socket), Phase::Sending { request, sent }) = (&mut self.socket, &mut self.phase)
        else {
            return Turn::Wait;
        };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return Turn::Over(Over::Broken(kind_of(&error)));
        }
        while *sent < request.len() {
            match socket.write(&request[*sent..]) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not connected yet: it will be said.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return Turn::Wait;
                }
                Err(error) => return Turn::Over(Over::Broken(kind_of(&error))),
            }
        }
        self.phase = Phase::Head { so_far: Vec::new() };
        Turn::Wait
    }

    /// Reads what has come. `closed` says that the other side has closed, so that reading goes on to the very end.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
        closed: bool,
    ) -> Turn {
        if matches!(
            self.phase,
            Phase::Waiting | Phase::Sending { .. } | Phase::Done
        ) {
            return Turn::Wait;
        }
        let mut read = 0;
        while read < TURN_BYTES_MAX {
            let Some(socket) = &mut self.socket else {
                return Turn::Wait;
            };
            match socket.read(buffer) {
                Ok(0) => return Turn::Over(self.at_the_end()),
                Ok(count) => {
                    read += count;
                    self.active = now;
                    collector.stats.wire_bytes += count as u64;
                    if let Some(over) =
                        self.process_bytes(&buffer[..count], scratch, collector, now)
                    {
                        return Turn::Over(over);
                    }
                    if SHORT_READ_IS_ALL && count < buffer.len() && !closed {
                        return Turn::Wait;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Turn::Over(self.at_an_error(&error)),
            }
        }
        Turn::Again
    }

    fn process_bytes(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<Over> {
        match &mut self.phase {
            Phase::Head { so_far } if so_far.is_empty() => {
                collector.stats.first_byte.add(self.asked.elapsed());
                self.take_head(bytes, scratch, collector, now)
            }
            Phase::Head { so_far } => {
                let mut whole = std::mem::take(so_far);
                whole.extend_from_slice(bytes);
                self.take_head(&whole, scratch, collector, now)
            }
            Phase::Streaming(_) => self.take_events(bytes, scratch, collector, now),
            Phase::Refused { body, message, .. } => {
                let ended = read_message(body, message, bytes);
                ended.then(|| self.at_the_end())
            }
            Phase::Waiting | Phase::Sending { .. } | Phase::Done => None,
        }
    }

    fn take_head(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<Over> {
        let head = match head::read(bytes) {
            Ok(Some(head)) => head,
            Ok(None) if bytes.len() < HEAD_BYTES_MAX => {
                self.phase = Phase::Head {
                    so_far: bytes.to_vec(),
                };
                return None;
            }
            Ok(None) => return Some(Over::Broken(kind_of_head(BadHead::TooLarge))),
            Err(error) => return Some(Over::Broken(kind_of_head(error))),
        };
        let rest = &bytes[head.end..];
        match head.response {
            ResponseKind::NoContent => Some(Over::NoContent),
            ResponseKind::Refused(refusal)
                if !collector.stats.connects.rejections.count(&refusal.kind) =>
            {
                Some(Over::Refused(refusal, Vec::new()))
            }
            ResponseKind::Refused(refusal) => {
                let (mut body, mut message) = (head.body, Vec::new());
                let ended = read_message(&mut body, &mut message, rest);
                self.phase = Phase::Refused {
                    refusal,
                    body,
                    message,
                    since: now,
                };
                ended.then(|| self.at_the_end())
            }
            ResponseKind::Stream => {
                self.phase = Phase::Streaming(head.body);
                self.count_open(collector, now);
                self.take_events(rest, scratch, collector, now)
            }
        }
    }

    fn count_open(&mut self, collector: &mut Collector, now: Instant) {
        let stats = &mut collector.stats;
        stats.open.add(self.asked.elapsed());
        stats.connects.opened += 1;
        self.opened = now;
        self.detours = 0;
        self.received.interruptions.opens = self.received.interruptions.opens.wrapping_add(1);
        if self.first_opened.is_none() {
            self.first_opened = Some(FirstOpen {
                at: now,
                at_us: wall_clock_us(),
            });
            stats.connects.ever_open += 1;
        } else if self.asked_with_id {
            stats.connects.resumed += 1;
        } else {
            stats.connects.reopened_without_id += 1;
        }
        match self.lost.take() {
            Some((since, Loss::Cut)) => stats.back_after_cut.add(since.elapsed()),
            Some((since, Loss::Ended)) => stats.back_after_end.add(since.elapsed()),
            None => {}
        }
    }

    fn take_events(
        &mut self,
        mut bytes: &[u8],
        scratch: &mut Scratch,
        collector: &mut Collector,
        now: Instant,
    ) -> Option<Over> {
        let Self {
            phase: Phase::Streaming(body),
            reader,
            received,
            ..
        } = self
        else {
            return None;
        };
        let (now_us, events_before) = (wall_clock_us(), collector.stats.events);
        let over = loop {
            match body.next(bytes) {
                Ok(Part::Data(data, left)) => {
                    let pushed = reader.push(scratch, data, |item| {
                        received.collect_item(item, collector, now, now_us)
                    });
                    if pushed.is_err() {
                        break Some(Over::Broken("an event is larger than --max-event-size"));
                    }
                    bytes = left;
                }
                Ok(Part::More) => break None,
                Ok(Part::Ended) => break Some(Over::Ended),
                Err(_not_chunked) => {
                    break Some(Over::Broken("the body is not chunked as HTTP says"));
                }
            }
        };
        let stats = &mut collector.stats;
        if stats.events != events_before {
            let first = stats.receiving.map_or(now, |(first, _)| first);
            stats.receiving = Some((first, now));
        }
        if received.has_enough(&collector.rules) {
            Some(Over::Enough)
        } else {
            over
        }
    }

    /// The other side has closed the connection, or the body of a refusal has ended.
    fn at_the_end(&mut self) -> Over {
        match &mut self.phase {
            Phase::Refused {
                refusal, message, ..
            } => Over::Refused(refusal.clone(), std::mem::take(message)),
            Phase::Streaming(body) if body.may_end() => Over::Ended,
            Phase::Streaming(_) => {
                Over::Broken("the connection was closed in the middle of the answer")
            }
            _ => Over::Broken("the connection was closed without an answer"),
        }
    }

    fn at_an_error(&mut self, error: &io::Error) -> Over {
        match &self.phase {
            Phase::Refused { .. } => self.at_the_end(),
            _ => Over::Broken(kind_of(error)),
        }
    }

    /// What is over by the clock: an idle stream, an answer that does not come, a message that takes too long.
    pub(crate) fn overdue(&mut self, now: Instant, limits: &Limits) -> Option<Over> {
        let since = |then: Instant| now.saturating_duration_since(then);
        match &self.phase {
            Phase::Sending { .. } if since(self.asked) >= limits.connect => {
                Some(Over::Broken("timed out"))
            }
            Phase::Head { .. } if since(self.asked) >= limits.idle => {
                Some(Over::Broken("no answer in --idle-timeout"))
            }
            Phase::Streaming(_) if since(self.active) >= limits.idle => {
                Some(Over::Broken("nothing came for --idle-timeout"))
            }
            Phase::Refused { since: begun, .. } if since(*begun) >= limits.message => {
                Some(self.at_the_end())
            }
            _ => None,
        }
    }

    /// Closes the socket; what is unfinished is forgotten.
    pub(crate) fn close(&mut self, phase: Phase) {
        self.socket = None;
        self.phase = phase;
        self.tried = true;
        self.reader.disconnected();
    }

    /// It has a stream.
    pub(crate) const fn has_stream(&self) -> bool {
        matches!(self.phase, Phase::Streaming(_))
    }

    /// It waits for a connection or for the first bytes of an answer.
    pub(crate) const fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Sending { .. } | Phase::Head { .. })
    }

    /// It will not be made again.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A connection to be made.
    pub(crate) connect: Duration,
    /// Silence.
    pub(crate) idle: Duration,
    /// The message of a refusal.
    pub(crate) message: Duration,
}

/// Adds to the message of a refusal. True if nothing more is to be read of it.
fn read_message(body: &mut Body, message: &mut Vec<u8>, mut bytes: &[u8]) -> bool {
    loop {
        match body.next(bytes) {
            Ok(Part::Data(data, left)) => {
                let room = REFUSAL_BYTES_MAX - message.len();
                message.extend_from_slice(&data[..data.len().min(room)]);
                if message.len() == REFUSAL_BYTES_MAX {
                    return true;
                }
                bytes = left;
            }
            Ok(Part::More) => return false,
            Ok(Part::Ended) | Err(_) => return true,
        }
    }
}

const fn kind_of_head(error: BadHead) -> &'static str {
    match error {
        BadHead::NotHttp => "the answer is not HTTP/1.1",
        BadHead::TooLarge => "the head of the answer is too large",
        BadHead::Framing => "where the answer ends cannot be told",
    }
}

/// A name for an error, by which alike ones are counted together.
pub(crate) fn kind_of(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            Errno::MFILE | Errno::NFILE => return NO_FILES,
            Errno::NOBUFS | Errno::NOMEM => return "no memory for sockets",
            _ => {}
        }
    }
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => "connection reset",
        Kind::TimedOut => "timed out",
        Kind::AddrNotAvailable | Kind::AddrInUse => NO_PORTS,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            "no route to the server"
        }
        Kind::PermissionDenied => "not permitted",
        _ => "another error",
    }
}

/// No port is left, or a `--source` is not an address of this machine.
pub(crate) const NO_PORTS: &str = "no free local port or address";
/// The limit of open files is reached.
pub(crate) const NO_FILES: &str = "too many open files";
