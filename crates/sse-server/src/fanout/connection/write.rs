//! Writes to the socket of a stream, with TLS or without.
//!
//! With TLS, each record is encrypted when the one before is accepted. A blocked stream therefore
//! holds one record, and a reference to the chunk that all streams share.

use std::{
    io::{self, ErrorKind, Write as _},
    time::Instant,
};

use bytes::Bytes;

use super::{BytesAccepted, Connection, WriteOutcome};
use crate::{
    fanout::{
        pending_work::BlockedWrite, shared_state::EncodedChunk, socket::StreamSocket,
        tls_socket::none_if_blocked,
    },
    tls::{SendResult, TlsSession},
};

impl Connection {
    /// Writes a chunk. The connection must not be blocked.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub(in crate::fanout) fn write_chunk(
        &mut self,
        chunk: &EncodedChunk,
        now: Instant,
    ) -> io::Result<WriteOutcome> {
        let bytes = chunk.bytes(self.coding);
        self.write(bytes, now)
    }

    /// Writes `bytes`. The connection must not be blocked.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub(in crate::fanout) fn write(
        &mut self,
        bytes: &Bytes,
        now: Instant,
    ) -> io::Result<WriteOutcome> {
        debug_assert!(!self.is_blocked(), "the rest of the last write comes first");
        let mut output = Output {
            socket: &mut self.socket,
            tls: self
                .pending
                .as_mut()
                .and_then(|work| work.tls.as_deref_mut()),
            accepted: &mut self.accepted,
        };
        let mut written = 0;
        if output.write_all(bytes, &mut written)? {
            return Ok(WriteOutcome::Complete);
        }
        self.pending_mut().blocked = Some(BlockedWrite {
            bytes: bytes.clone(),
            written,
            progressed: now,
            share: None,
        });
        Ok(WriteOutcome::Blocked)
    }

    /// Writes the rest of a blocked write.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub(in crate::fanout) fn resume_write(&mut self, now: Instant) -> io::Result<WriteOutcome> {
        let Some(pending) = &mut self.pending else {
            return Ok(WriteOutcome::Complete);
        };
        let Some(blocked) = &mut pending.blocked else {
            return Ok(WriteOutcome::Complete);
        };
        let accepted = self.accepted;
        let mut output = Output {
            socket: &mut self.socket,
            tls: pending.tls.as_deref_mut(),
            accepted: &mut self.accepted,
        };
        let before = blocked.written;
        let is_complete = output.write_all(&blocked.bytes, &mut blocked.written)?;
        if blocked.written > before || accepted != self.accepted {
            blocked.progressed = now;
        }
        if !is_complete {
            return Ok(WriteOutcome::Blocked);
        }
        pending.blocked = None;
        self.free_pending_if_idle();
        Ok(WriteOutcome::Complete)
    }

    /// Sends what TLS has to send by itself, such as an alert.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub(in crate::fanout) fn flush_session(&mut self, now: Instant) -> io::Result<WriteOutcome> {
        if self.is_blocked() || !self.tls().is_some_and(TlsSession::wants_write) {
            return Ok(WriteOutcome::Complete);
        }
        self.write(&Bytes::new(), now)
    }

    /// Sends the end of the stream to the client.
    pub(in crate::fanout) fn close_write(&mut self) {
        // Unread input would turn the close into a reset, which may overtake the last bytes.
        let _ = self.discard_input();
        if let Some(tls) = self
            .pending
            .as_mut()
            .and_then(|work| work.tls.as_deref_mut())
        {
            tls.close();
            // A client that has no room for it sees only the end of the connection.
            let _ = tls.flush(&mut |bytes| write_some(&mut self.socket, bytes));
        }
        self.socket.close_write();
    }
}

/// Where a connection writes to.
struct Output<'a> {
    socket: &'a mut StreamSocket,
    tls: Option<&'a mut TlsSession>,
    accepted: &'a mut BytesAccepted,
}

impl Output<'_> {
    /// Writes `bytes` from the position `written` on, which advances. Returns whether the socket has
    /// accepted everything.
    fn write_all(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<bool> {
        match &mut self.tls {
            None => write_plain(self.socket, self.accepted, bytes, written),
            Some(tls) => {
                let result = write_records(self.socket, tls, bytes, written);
                self.accepted.add(tls.take_accepted());
                result
            }
        }
    }
}

fn write_plain(
    socket: &mut StreamSocket,
    accepted: &mut BytesAccepted,
    bytes: &[u8],
    written: &mut usize,
) -> io::Result<bool> {
    while *written < bytes.len() {
        let Some(count) = write_some(socket, &bytes[*written..])? else {
            return Ok(false);
        };
        *written += count;
        accepted.add(count);
    }
    Ok(true)
}

fn write_records(
    socket: &mut StreamSocket,
    tls: &mut TlsSession,
    bytes: &[u8],
    written: &mut usize,
) -> io::Result<bool> {
    let mut send = |record: &[u8]| write_some(socket, record);
    while *written < bytes.len() {
        let Some(count) = tls.write(&bytes[*written..], &mut send)? else {
            return Ok(false);
        };
        *written += count;
    }
    tls.flush(&mut send)
}

/// Writes to `socket`. Returns the number of bytes written; `None` if the socket is full.
fn write_some(socket: &mut StreamSocket, bytes: &[u8]) -> SendResult {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return none_if_blocked(written),
        }
    }
}
