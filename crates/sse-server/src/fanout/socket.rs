//! Socket of a client, whatever protocol it carries.
//!
//! actix reads requests from an [`AcceptedSocket`]. A fan-out thread writes the stream to the
//! [`StreamSocket`] that `AcceptedSocket::detach` makes of it. Both types are enums with one
//! variant, TCP. TLS would be a second variant, which keeps its session beside the socket; no other
//! file names the type of the socket. The types are enums, not `dyn` traits, because every delivery
//! writes to a socket.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Interest, Registry, Token, event::Source};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Identifies a socket to the kernel; no later socket has the same cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketCookie(pub(super) u64);

impl SocketCookie {
    /// Returns the cookie of a socket; `None` if this system has none.
    #[cfg(target_os = "linux")]
    fn of_socket(socket: &SockRef<'_>) -> Option<Self> {
        socket.cookie().ok().map(Self)
    }

    #[cfg(not(target_os = "linux"))]
    fn of_socket(_: &SockRef<'_>) -> Option<Self> {
        None
    }
}

/// Socket of an accepted connection, driven by the tokio runtime.
#[derive(Debug)]
pub enum AcceptedSocket {
    /// TCP without encryption.
    Tcp(tokio::net::TcpStream),
}

impl From<tokio::net::TcpStream> for AcceptedSocket {
    fn from(socket: tokio::net::TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl AcceptedSocket {
    /// Writes without waiting, even if the runtime considers the socket full.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room, or the error of the socket.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tcp(socket) = self;
        SockRef::from(socket).send(bytes)
    }

    /// Returns the kernel's name of the socket.
    pub(super) fn cookie(&self) -> Option<SocketCookie> {
        let Self::Tcp(socket) = self;
        SocketCookie::of_socket(&SockRef::from(socket))
    }

    /// Makes the drop of the socket a reset, so that the kernel keeps no unsent bytes.
    pub(super) fn reset_on_close(&self) {
        let Self::Tcp(socket) = self;
        reset_on_close(&SockRef::from(socket));
    }

    /// Takes the socket out of the runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot deregister the socket.
    pub(super) fn detach(self) -> io::Result<StreamSocket> {
        let Self::Tcp(socket) = self;
        let socket = mio::net::TcpStream::from_std(socket.into_std()?);
        Ok(StreamSocket::Tcp(socket))
    }
}

impl AsyncRead for AcceptedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self::Tcp(socket) = self.get_mut();
        Pin::new(socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AcceptedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(socket) = self.get_mut();
        Pin::new(socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(socket) = self.get_mut();
        Pin::new(socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(socket) = self.get_mut();
        Pin::new(socket).poll_shutdown(cx)
    }
}

/// Socket of a detached stream, which never blocks and which a fan-out thread polls.
#[derive(Debug)]
pub enum StreamSocket {
    /// TCP without encryption.
    Tcp(mio::net::TcpStream),
}

impl StreamSocket {
    /// Sends the end of the stream to the client. An error means that the client is gone.
    pub(super) fn close_write(&self) {
        let Self::Tcp(socket) = self;
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Returns the kernel's name of the socket.
    pub(super) fn cookie(&self) -> Option<SocketCookie> {
        let Self::Tcp(socket) = self;
        SocketCookie::of_socket(&SockRef::from(socket))
    }

    /// Makes the drop of the socket a reset, so that the kernel keeps no unsent bytes.
    pub(super) fn reset_on_close(&self) {
        let Self::Tcp(socket) = self;
        reset_on_close(&SockRef::from(socket));
    }
}

fn reset_on_close(socket: &SockRef<'_>) {
    // If this fails, the kernel keeps the unsent bytes until its own limit.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

impl Read for StreamSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self::Tcp(socket) = self;
        socket.read(buffer)
    }
}

impl Write for StreamSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tcp(socket) = self;
        socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self::Tcp(socket) = self;
        socket.flush()
    }
}

impl Source for StreamSocket {
    fn register(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        let Self::Tcp(socket) = self;
        socket.register(registry, token, on)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        let Self::Tcp(socket) = self;
        socket.reregister(registry, token, on)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let Self::Tcp(socket) = self;
        socket.deregister(registry)
    }
}
