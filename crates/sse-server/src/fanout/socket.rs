//! Socket of a client, whatever protocol it carries.
//!
//! actix reads requests from an [`AcceptedSocket`]. A fan-out thread writes the stream to the
//! [`StreamSocket`] that `AcceptedSocket::detach` makes of it. Both types are enums over the
//! transports; only `server/accept` also names the type of the socket, to set its options. The types
//! are enums, not `dyn` traits, because every delivery writes to a socket.
//!
//! With TLS, an accepted socket contains its session. A stream's session is beside its socket, in a
//! part of the connection that plain streams do not have.
//!
//! The transports differ in when a socket becomes writable, and in what *accepted* means:
//!
//! | | TCP | unix socket |
//! |---|---|---|
//! | reported as writable | when it was full and has room again | also each time its client has read something |
//! | bytes that are written, but not sent | up to [`UNSENT_BYTES`] | none: the client can read them |

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Interest, Registry, Token, event::Source};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{stall::UNSENT_BYTES, tls_socket::TlsSocket};
use crate::tls::TlsSession;

/// Evaluates an expression for the accepted socket of any transport.
macro_rules! with_accepted {
    ($self:expr, $socket:ident => $result:expr) => {
        match $self {
            Self::Tcp($socket) => $result,
            Self::Unix($socket) => $result,
            Self::Tls($socket) => $result,
        }
    };
}

/// Evaluates an expression for the stream's socket of any transport.
macro_rules! with_socket {
    ($self:expr, $socket:ident => $result:expr) => {
        match $self {
            Self::Tcp($socket) => $result,
            Self::Unix($socket) => $result,
        }
    };
}

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
    /// A unix socket, whose client has no address.
    Unix(tokio::net::UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsSocket>),
}

impl From<tokio::net::TcpStream> for AcceptedSocket {
    fn from(socket: tokio::net::TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<tokio::net::UnixStream> for AcceptedSocket {
    fn from(socket: tokio::net::UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl From<TlsSocket> for AcceptedSocket {
    fn from(socket: TlsSocket) -> Self {
        Self::Tls(Box::new(socket))
    }
}

impl AcceptedSocket {
    /// Returns the address of the client, if it has one and is still connected.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().ok(),
            Self::Tls(socket) => socket.tcp().peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Returns the number of the socket's descriptor.
    pub(crate) fn descriptor(&self) -> usize {
        let number = with_accepted!(self, socket => socket.as_raw_fd());
        usize::try_from(number).unwrap_or(0)
    }

    /// Whether the connection uses TLS.
    pub(super) const fn uses_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the connection must not carry a further chunk, because of the keys of TLS.
    pub(crate) fn is_worn_out(&self) -> bool {
        match self {
            Self::Tls(socket) => socket.is_worn_out(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// Returns how many written bytes the kernel may hold that the client cannot read yet.
    pub(super) const fn unsent_bytes_max(&self) -> u32 {
        match self {
            Self::Tcp(_) | Self::Tls(_) => UNSENT_BYTES,
            Self::Unix(_) => 0,
        }
    }

    /// Writes without waiting, even if the runtime considers the socket full.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room, or the error of the socket.
    pub(super) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => SockRef::from(&*socket).send(bytes),
            Self::Unix(socket) => SockRef::from(&*socket).send(bytes),
            Self::Tls(socket) => socket.write_now(bytes),
        }
    }

    /// Returns how many bytes the kernel has accepted since the last call, with those of TLS.
    /// `written` is the outcome of the last write.
    pub(super) fn take_accepted(&mut self, written: &Poll<io::Result<usize>>) -> usize {
        match (self, written) {
            (Self::Tls(socket), _) => socket.take_accepted(),
            (_, Poll::Ready(Ok(count))) => *count,
            _ => 0,
        }
    }

    /// Sends the end of a TLS session if the kernel has room for it.
    pub(super) fn close_now(&mut self) {
        if let Self::Tls(socket) = self {
            socket.close_now();
        }
    }

    /// Returns the kernel's name of the socket; `None` if its client cannot vanish.
    pub(super) fn cookie(&self) -> Option<SocketCookie> {
        match self {
            Self::Tcp(socket) => SocketCookie::of_socket(&SockRef::from(socket)),
            Self::Tls(socket) => SocketCookie::of_socket(&SockRef::from(socket)),
            Self::Unix(_) => None,
        }
    }

    /// Makes the drop of the socket a reset, so that the kernel keeps no unsent bytes.
    pub(super) fn reset_on_close(&self) {
        with_accepted!(self, socket => reset_on_close(&SockRef::from(socket)));
    }

    /// Takes the socket out of the runtime, and the session of TLS, if there is one.
    ///
    /// # Errors
    ///
    /// The runtime cannot deregister the socket.
    pub(super) fn detach(self) -> io::Result<(StreamSocket, Option<Box<TlsSession>>)> {
        let tcp = |socket: tokio::net::TcpStream| {
            let socket = mio::net::TcpStream::from_std(socket.into_std()?);
            io::Result::Ok(StreamSocket::Tcp(socket))
        };
        Ok(match self {
            Self::Tcp(socket) => (tcp(socket)?, None),
            Self::Tls(socket) => {
                let (socket, session) = socket.into_parts();
                (tcp(socket)?, Some(session))
            }
            Self::Unix(socket) => {
                let socket = mio::net::UnixStream::from_std(socket.into_std()?);
                (StreamSocket::Unix(socket), None)
            }
        })
    }
}

impl AsyncRead for AcceptedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_accepted!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buffer))
    }
}

impl AsyncWrite for AcceptedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_accepted!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_accepted!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_accepted!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}

/// Socket of a detached stream, which never blocks and which a fan-out thread polls.
#[derive(Debug)]
pub enum StreamSocket {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// A unix socket.
    Unix(mio::net::UnixStream),
}

impl StreamSocket {
    /// Returns what a fan-out thread polls while no write is blocked.
    pub(super) fn interest(&self) -> Interest {
        match self {
            Self::Tcp(_) => Interest::READABLE | Interest::WRITABLE,
            // Otherwise each delivery would wake the thread once more, when the client has read it.
            Self::Unix(_) => Interest::READABLE,
        }
    }

    /// Polls the socket for room while a write is blocked.
    ///
    /// An error has no effect: a blocked write is repeated once per retry interval.
    pub(super) fn set_blocked(&mut self, registry: &Registry, token: Token, is_blocked: bool) {
        let interest = self.interest();
        if interest.is_writable() {
            return;
        }
        let interest = if is_blocked {
            interest | Interest::WRITABLE
        } else {
            interest
        };
        let _ = self.reregister(registry, token, interest);
    }

    /// Returns how many written bytes the kernel may hold that the client cannot read yet.
    pub(super) const fn unsent_bytes_max(&self) -> u32 {
        match self {
            Self::Tcp(_) => UNSENT_BYTES,
            Self::Unix(_) => 0,
        }
    }

    /// Sends the end of the stream to the client. An error means that the client is gone.
    pub(super) fn close_write(&self) {
        let _ = with_socket!(self, socket => socket.shutdown(Shutdown::Write));
    }

    /// Returns the kernel's name of the socket; `None` if its client cannot vanish.
    pub(super) fn cookie(&self) -> Option<SocketCookie> {
        match self {
            Self::Tcp(socket) => SocketCookie::of_socket(&SockRef::from(socket)),
            Self::Unix(_) => None,
        }
    }

    /// Makes the drop of the socket a reset, so that the kernel keeps no unsent bytes.
    pub(super) fn reset_on_close(&self) {
        with_socket!(self, socket => reset_on_close(&SockRef::from(socket)));
    }
}

fn reset_on_close(socket: &SockRef<'_>) {
    // If this fails, the kernel keeps the unsent bytes until its own limit.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

impl Read for StreamSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        with_socket!(self, socket => socket.read(buffer))
    }
}

impl Write for StreamSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        with_socket!(self, socket => socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        with_socket!(self, socket => socket.flush())
    }
}

impl Source for StreamSocket {
    fn register(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        with_socket!(self, socket => socket.register(registry, token, on))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        with_socket!(self, socket => socket.reregister(registry, token, on))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        with_socket!(self, socket => socket.deregister(registry))
    }
}

#[cfg(test)]
mod tests;
