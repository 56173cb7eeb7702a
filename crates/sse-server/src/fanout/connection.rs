//! One detached socket: what is written to it, and what of that is still on its way.
//!
//! It is kept small, because there are very many that do nothing; what only a blocked or waiting one needs is in a box.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use mio::net::TcpStream;
use tokio::task::AbortHandle;

use super::{
    admission::{CloseReason, StreamGuard},
    detach::Counted,
    heartbeat_wheel::Tick,
    stall::BytesAccepted,
    view::{EncodedChunk, Framing, SharedState},
};
use crate::channel::multi::Fetch;

/// What a client may send after its request: it is thrown away, and beyond it so is the client.
const RECEIVED_MAX: u16 = u16::MAX;

/// One subscriber.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) socket: TcpStream,
    pub(super) view: u32,
    /// Among the members of its view.
    pub(super) place: u32,
    /// When something was last sent.
    pub(super) last_write: Tick,
    /// Where it was filed for its next heartbeat.
    pub(super) due: Tick,
    received: u16,
    accepted: BytesAccepted,
    pub(super) framing: Framing,
    /// It has more to do at once, and waits for its turn.
    pub(super) is_queued: bool,
    pub(super) state: Rc<SharedState>,
    pub(super) guard: StreamGuard,
    _counted: Counted,
    rare: Option<Box<Rare>>,
}

/// What few subscribers need at a time.
#[derive(Debug, Default)]
struct Rare {
    blocked: Option<Blocked>,
    fetching: Option<(u64, Fetch)>,
    settling: Option<(u64, AbortHandle)>,
    /// Everything has been said.
    is_ending: bool,
}

/// The socket takes no more for now.
#[derive(Debug)]
struct Blocked {
    /// The rest of what was begun, which must be finished with these very bytes.
    rest: Bytes,
    /// When it last took something.
    progressed: Instant,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    Blocked,
}

impl Subscriber {
    pub(super) fn new(
        socket: TcpStream,
        framing: Framing,
        state: Rc<SharedState>,
        (guard, counted, accepted): (StreamGuard, Counted, BytesAccepted),
        last_write: Tick,
    ) -> Self {
        Self {
            socket,
            view: 0,
            place: 0,
            last_write,
            due: last_write,
            received: 0,
            accepted,
            framing,
            is_queued: false,
            state,
            guard,
            _counted: counted,
            rare: None,
        }
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn send(&mut self, said: &EncodedChunk, now: Instant) -> io::Result<Written> {
        let bytes = said.framed(self.framing);
        self.write(bytes, now)
    }

    pub(super) fn write(&mut self, bytes: &Bytes, now: Instant) -> io::Result<Written> {
        debug_assert!(!self.is_blocked(), "what was begun comes first");
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.write(&bytes[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.accepted.add(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rare().blocked = Some(Blocked {
                        rest: bytes.slice(written..),
                        progressed: now,
                    });
                    return Ok(Written::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.blocked.is_some())
    }

    /// Goes on with what was begun.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<Written> {
        let Some(rare) = &mut self.rare else {
            return Ok(Written::All);
        };
        let Some(blocked) = &mut rare.blocked else {
            return Ok(Written::All);
        };
        while !blocked.rest.is_empty() {
            match self.socket.write(&blocked.rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    blocked.rest.advance(count);
                    self.accepted.add(count);
                    blocked.progressed = now;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written::Blocked),
                Err(error) => return Err(error),
            }
        }
        rare.blocked = None;
        self.drop_rare_if_empty();
        Ok(Written::All)
    }

    /// Whether its socket is blocked and has taken nothing for too long.
    pub(super) fn is_stalled(&self, now: Instant, write_timeout: Duration) -> bool {
        let blocked = self.rare.as_ref().and_then(|rare| rare.blocked.as_ref());
        blocked.is_some_and(|blocked| {
            now.duration_since(blocked.progressed) > self.accepted.stall_timeout(write_timeout)
        })
    }

    /// Throws away what the client has sent.
    ///
    /// # Errors
    /// Why it should be closed.
    pub(super) fn discard(&mut self) -> Result<(), CloseReason> {
        let mut scratch = [0; 4096];
        loop {
            match self.socket.read(&mut scratch) {
                Ok(0) => return Err(CloseReason::Client),
                Ok(count) => {
                    self.received = self
                        .received
                        .saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
                    if self.received == RECEIVED_MAX {
                        return Err(CloseReason::TooMuchInput);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(CloseReason::Client),
            }
        }
    }

    /// The page that it waits for, and the number of its request.
    pub(super) fn fetching(&self) -> Option<(u64, Fetch)> {
        self.rare.as_ref().and_then(|rare| rare.fetching)
    }

    pub(super) fn set_fetching(&mut self, fetching: Option<(u64, Fetch)>) {
        if fetching.is_some() || self.rare.is_some() {
            self.rare().fetching = fetching;
            self.drop_rare_if_empty();
        }
    }

    pub(super) fn set_settling(&mut self, request_id: u64, task: AbortHandle) {
        self.rare().settling = Some((request_id, task));
    }

    /// Whether this is the answer it waits for, which it does not do any more then.
    pub(super) fn take_settling(&mut self, request_id: u64) -> bool {
        let Some(rare) = &mut self.rare else {
            return false;
        };
        let is_it = rare
            .settling
            .as_ref()
            .is_some_and(|(waits_for, _)| *waits_for == request_id);
        if is_it {
            rare.settling = None;
            self.drop_rare_if_empty();
        }
        is_it
    }

    pub(super) fn end(&mut self) {
        self.rare().is_ending = true;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_ending)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn drop_rare_if_empty(&mut self) {
        let is_needless = |rare: &Rare| {
            rare.blocked.is_none()
                && rare.fetching.is_none()
                && rare.settling.is_none()
                && !rare.is_ending
        };
        if self.rare.as_deref().is_some_and(is_needless) {
            self.rare = None;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some((_, task)) = self.rare.as_mut().and_then(|rare| rare.settling.take()) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_small() {
        // mio checks more in development.
        let most = 72 + if cfg!(debug_assertions) { 8 } else { 0 };
        assert!(
            size_of::<Subscriber>() <= most,
            "{}",
            size_of::<Subscriber>()
        );
    }
}
