//! A TLS connection that HTTP serves: a TCP socket and the session over it.
//!
//! A write is complete only when the kernel has accepted all of its record. So HTTP never has
//! written bytes that wait here, and a blocked write counts as blocked, as without TLS. Only an
//! alert may wait, which the next write or flush sends.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tls::{SendResult, TlsSession, with_scratch};

/// A TCP socket and its TLS session.
#[derive(Debug)]
pub struct TlsSocket {
    socket: TcpStream,
    session: Box<TlsSession>,
    /// What the client has sent, and HTTP has not read from the position `read` on.
    plaintext: Vec<u8>,
    read: usize,
}

impl TlsSocket {
    /// Wraps a socket whose handshake is complete. `plaintext` arrived with its end.
    pub(crate) const fn new(
        socket: TcpStream,
        session: Box<TlsSession>,
        plaintext: Vec<u8>,
    ) -> Self {
        Self {
            socket,
            session,
            plaintext,
            read: 0,
        }
    }

    /// Returns the TCP socket.
    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the parts, without plaintext that HTTP has not read.
    pub(super) fn into_parts(self) -> (TcpStream, Box<TlsSession>) {
        (self.socket, self.session)
    }

    /// Returns the encrypted bytes that the kernel has accepted since the last call.
    pub(super) const fn take_accepted(&mut self) -> usize {
        self.session.take_accepted()
    }

    /// Returns the protocol that the handshake has chosen; `None` if the client named none.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn()
    }

    /// Whether the client resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.is_resumed()
    }

    /// Whether the keys may encrypt no further chunk.
    pub(super) fn is_worn_out(&self) -> bool {
        self.session.is_worn_out()
    }

    /// Writes without waiting, even if the runtime considers the socket full.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room for all of a record, or the error of the socket.
    pub(super) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let socket = SockRef::from(&self.socket);
        let written = self
            .session
            .write(bytes, &mut |bytes| none_if_blocked(socket.send(bytes)))?;
        written.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Sends the end of the session if the kernel has room for it.
    pub(super) fn close_now(&mut self) {
        let socket = SockRef::from(&self.socket);
        self.session.close();
        // Without this alert the client sees the end of the connection all the same.
        let _ = self
            .session
            .flush(&mut |bytes| none_if_blocked(socket.send(bytes)));
    }

    /// Moves plaintext to `buffer`, as much as fits.
    fn read_plaintext(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.plaintext[self.read..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.read += count;
        if self.read == self.plaintext.len() {
            (self.plaintext, self.read) = (Vec::new(), 0);
        }
    }

    /// Receives from the socket. Ready with `false` at the end of what the client sends.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self {
            socket,
            session,
            plaintext,
            ..
        } = self;
        with_scratch(|scratch| {
            let mut received = ReadBuf::new(scratch);
            ready!(Pin::new(socket).poll_read(cx, &mut received))?;
            let received = received.filled_mut();
            if received.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let result = session.receive(received, &mut |bytes| plaintext.extend_from_slice(bytes));
            Poll::Ready(match result {
                Ok(()) => Ok(true),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            })
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            socket, session, ..
        } = self;
        match session
            .flush(&mut |bytes| none_if_pending(Pin::new(&mut *socket).poll_write(cx, bytes)))
        {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.plaintext.is_empty() {
                this.read_plaintext(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.session.is_closed_by_client() {
                return Poll::Ready(Ok(()));
            }
            let received = this.poll_receive(cx);
            if this.session.wants_write() {
                // An alert. If the socket is full, the next write sends it.
                let _ = this.poll_send(cx)?;
            }
            if !ready!(received)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Self {
            socket, session, ..
        } = self.get_mut();
        let written = session.write(bytes, &mut |bytes| {
            none_if_pending(Pin::new(&mut *socket).poll_write(cx, bytes))
        });
        match written.transpose() {
            Some(written) => Poll::Ready(written),
            None => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.close();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TlsSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn none_if_pending(written: Poll<io::Result<usize>>) -> SendResult {
    match written {
        Poll::Ready(written) => written.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Returns `None` if the socket is full.
pub(super) fn none_if_blocked(written: io::Result<usize>) -> SendResult {
    match written {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
