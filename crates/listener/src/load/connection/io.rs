//! Writing the request of a connection, and reading what arrives.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use super::{
    close_reason::{CloseReason, error_kind},
    state::{LoadConnection, Phase},
};
use crate::load::{collector::Collector, event_reader::Scratch};

/// Limit of bytes that a connection reads in one turn, so that other connections get theirs.
const TURN_BYTES_MAX: usize = 256 << 10;
/// Limit of bytes of one read.
const BUFFER_BYTES: usize = 64 << 10;
/// A read that does not fill its buffer has read everything, and epoll reports what arrives later.
/// Other systems may need to return `WouldBlock` once before they report again.
const SHORT_READ_IS_ALL: bool = cfg!(any(target_os = "linux", target_os = "android"));

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
    bytes: Vec<u8>,
    scratch: Scratch,
}

impl ReadBuffers {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BUFFER_BYTES],
            scratch: Scratch::default(),
        }
    }
}

impl LoadConnection {
    /// Writes the rest of the request.
    pub(crate) fn write_request(&mut self) -> IoOutcome {
        let (Some(socket), Phase::Sending { request, sent }) = (&mut self.socket, &mut self.phase)
        else {
            return IoOutcome::Wait;
        };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return IoOutcome::Close(CloseReason::Broken(error_kind(&error)));
        }
        while *sent < request.len() {
            match socket.write(&request[*sent..]) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_not_ready(&error) => return IoOutcome::Wait,
                Err(error) => return IoOutcome::Close(CloseReason::Broken(error_kind(&error))),
            }
        }
        self.phase = Phase::Head { so_far: Vec::new() };
        IoOutcome::Wait
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
        let ReadBuffers { bytes, scratch } = buffers;
        let mut turn_bytes = 0;
        while turn_bytes < TURN_BYTES_MAX {
            let Some(socket) = &mut self.socket else {
                return IoOutcome::Wait;
            };
            match socket.read(bytes) {
                Ok(0) => return IoOutcome::Close(self.end_of_input()),
                Ok(count) => {
                    turn_bytes += count;
                    self.last_received = now;
                    collector.stats.wire_bytes += count as u64;
                    let read = &bytes[..count];
                    if let Some(reason) = self.process_bytes(read, scratch, collector, now) {
                        return IoOutcome::Close(reason);
                    }
                    if SHORT_READ_IS_ALL && count < bytes.len() && !read_to_end {
                        return IoOutcome::Wait;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return IoOutcome::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return IoOutcome::Close(self.read_error(&error)),
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
    fn read_error(&mut self, error: &io::Error) -> CloseReason {
        match &self.phase {
            Phase::Rejected { .. } => self.end_of_input(),
            _ => CloseReason::Broken(error_kind(error)),
        }
    }
}

/// Returns `true` if the socket is still connecting or full. Its readiness is reported later.
fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}
