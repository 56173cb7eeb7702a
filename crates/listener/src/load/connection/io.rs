//! Writing the request of a connection, and reading what arrives.

use std::{io, time::Instant};

use super::{
    close_reason::{CloseReason, error_kind},
    link::Link,
    state::{LoadConnection, Phase},
};
use crate::load::{
    collector::Collector,
    event_reader::Scratch,
    transport::{TransportBuffers, is_not_ready},
};

/// Limit of bytes that a connection reads in one turn, so that other connections get theirs.
const TURN_BYTES_MAX: usize = 256 << 10;

/// What a turn of a connection leads to.
#[derive(Debug)]
pub(crate) enum IoOutcome {
    /// Wait until the socket is ready.
    Wait,
    /// There may be more to read, but the turn is over.
    ReadAgain,
    /// Close the connection.
    Close(CloseReason),
}

/// Memory for reading, shared by all connections.
#[derive(Debug)]
pub(crate) struct ReadBuffers {
    transport: TransportBuffers,
    pub(super) scratch: Scratch,
}

impl ReadBuffers {
    pub(crate) fn new() -> Self {
        Self {
            transport: TransportBuffers::new(),
            scratch: Scratch::default(),
        }
    }
}

impl LoadConnection {
    /// Writes the rest of the request; over TLS, after the handshake.
    pub(crate) fn write_request(&mut self) -> IoOutcome {
        match self.try_write_request() {
            Err(error) if !is_not_ready(&error) => {
                IoOutcome::Close(CloseReason::Broken(error_kind(&error)))
            }
            _ => IoOutcome::Wait,
        }
    }

    fn try_write_request(&mut self) -> io::Result<()> {
        let Some(Link::Own(transport)) = &mut self.link else {
            return Ok(());
        };
        let Phase::Sending { request, sent } = &mut self.phase else {
            return transport.flush();
        };
        if let Some(error) = transport.take_error()? {
            return Err(error);
        }
        while *sent < request.len() {
            match transport.send(&request[*sent..]) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.phase = Phase::Head { so_far: Vec::new() };
        Ok(())
    }

    /// Reads what has arrived. With `read_to_end`, a short read is followed by another one: the
    /// server has closed the connection, or the previous turn ended early.
    pub(crate) fn read(
        &mut self,
        buffers: &mut ReadBuffers,
        collector: &mut Collector,
        now: Instant,
        read_to_end: bool,
    ) -> IoOutcome {
        if !self.is_reading() {
            return IoOutcome::Wait;
        }
        let ReadBuffers { transport, scratch } = buffers;
        let mut turn_bytes = 0;
        while turn_bytes < TURN_BYTES_MAX {
            let Some(Link::Own(link)) = &mut self.link else {
                return IoOutcome::Wait;
            };
            let received = match link.receive(transport) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return IoOutcome::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return IoOutcome::Close(self.read_error(error_kind(&error))),
            };
            if received.is_end {
                return IoOutcome::Close(self.end_of_input());
            }
            turn_bytes += received.wire.max(received.data);
            self.last_received = now;
            collector.stats.wire_bytes += received.wire as u64;
            let data = &transport.data[..received.data];
            // A read over TLS may contain no data.
            if !data.is_empty()
                && let Some(reason) = self.process_bytes(data, scratch, collector, now)
            {
                return IoOutcome::Close(reason);
            }
            if received.is_drained && !read_to_end {
                return IoOutcome::Wait;
            }
        }
        IoOutcome::ReadAgain
    }

    const fn is_reading(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Waiting | Phase::Sending { .. } | Phase::Done
        )
    }

    /// An error ends the message of a rejection like the end of the input.
    pub(super) fn read_error(&mut self, kind: &'static str) -> CloseReason {
        match &self.phase {
            Phase::Rejected { .. } => self.end_of_input(),
            _ => CloseReason::Broken(kind),
        }
    }
}
