//! The socket of a connection, as `h2` reads and writes it.
//!
//! A call that finds the socket not ready stores no waker. The engine polls the connection whenever
//! the socket is ready.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::load::transport::{Transport, TransportBuffers, is_not_ready};

/// The protocol of ALPN that means HTTP/2 (RFC 9113 §3.1).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// What the engine and the socket report to each other.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// The socket may have bytes to read.
    pub(crate) is_readable: Cell<bool>,
    /// The server has closed its side, so a short read is followed by another one.
    pub(crate) is_closed: Cell<bool>,
    /// Bytes that were read and that the engine has not counted.
    pub(crate) wire_bytes: Cell<u64>,
}

/// The server chose another protocol than HTTP/2 in the TLS handshake.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server does not speak HTTP/2")]
pub(crate) struct NoHttp2;

/// The socket of a connection.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    transport: Transport,
    readiness: Rc<Readiness>,
    buffers: Rc<RefCell<TransportBuffers>>,
    is_established: bool,
    /// Received data for which `h2` had no room.
    held: Vec<u8>,
    /// Bytes of `held` that `h2` has taken.
    taken: usize,
}

impl SharedSocket {
    pub(crate) fn new(
        transport: Transport,
        readiness: Rc<Readiness>,
        buffers: Rc<RefCell<TransportBuffers>>,
    ) -> Self {
        Self {
            transport,
            readiness,
            buffers,
            is_established: false,
            held: Vec::new(),
            taken: 0,
        }
    }

    /// Sends the start of `bytes`, and checks the protocol once the handshake is complete.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_established
            && let Some(error) = self.transport.take_error()?
        {
            return Err(error);
        }
        let count = self.transport.send(bytes)?;
        if !self.is_established && self.transport.protocol() != Some(HTTP_2) {
            return Err(io::Error::other(NoHttp2));
        }
        self.is_established = true;
        Ok(count)
    }

    fn take_held(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let held = &self.held[self.taken..];
        if held.is_empty() {
            return false;
        }
        let count = held.len().min(buffer.remaining());
        buffer.put_slice(&held[..count]);
        self.taken += count;
        if self.taken == self.held.len() {
            // The connection keeps no memory for a rare case.
            (self.held, self.taken) = (Vec::new(), 0);
        }
        true
    }

    /// Reads once. Returns `false` if that yielded no data, but may do so at the next attempt.
    fn receive(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut buffers = self.buffers.borrow_mut();
        let received = self.transport.receive(&mut buffers)?;
        let readiness = &self.readiness;
        let wire_bytes = readiness.wire_bytes.get() + received.wire as u64;
        readiness.wire_bytes.set(wire_bytes);
        if received.is_drained && !readiness.is_closed.get() {
            readiness.is_readable.set(false);
        }
        let data = &buffers.data[..received.data];
        let (now, later) = data.split_at(data.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.held.extend_from_slice(later);
        Ok(received.is_end || !data.is_empty())
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.take_held(buffer) {
            return Poll::Ready(Ok(()));
        }
        while self.readiness.is_readable.get() {
            match self.receive(buffer) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_not_ready(&error) => self.readiness.is_readable.set(false),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready_unless_blocked(self.send(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready_unless_blocked(self.transport.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn ready_unless_blocked<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if is_not_ready(&error) => Poll::Pending,
        result => Poll::Ready(result),
    }
}
