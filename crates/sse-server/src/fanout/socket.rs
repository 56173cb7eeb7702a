//! Socket of a client, whatever protocol it carries.
//!
//! actix reads requests from an [`AcceptedSocket`]. A fan-out thread writes the stream to the
//! [`StreamSocket`] that `AcceptedSocket::detach` makes of it. Both types are enums over the
//! transports, TCP and unix sockets. TLS would be a further variant, which keeps its session beside
//! the socket; only `server/transport` also names the type of the socket, to set its
//! options. The types are enums, not `dyn` traits, because every delivery writes to a socket.
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

use super::stall::UNSENT_BYTES;
use crate::budget::ClientNet;

/// Evaluates an expression for the socket of any transport.
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

impl AcceptedSocket {
    /// Returns the address of the client, if it has one and is still connected.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Returns the number of the socket's descriptor.
    pub(crate) fn descriptor(&self) -> usize {
        let number = with_socket!(self, socket => socket.as_raw_fd());
        usize::try_from(number).unwrap_or(0)
    }

    /// Returns the network of the client, if it has one and is still connected.
    pub(super) fn client_net(&self) -> Option<ClientNet> {
        self.peer_address().map(|address| address.ip().into())
    }

    /// Returns how many written bytes the kernel may hold that the client cannot read yet.
    pub(super) const fn unsent_bytes_max(&self) -> u32 {
        match self {
            Self::Tcp(_) => UNSENT_BYTES,
            Self::Unix(_) => 0,
        }
    }

    /// Writes without waiting, even if the runtime considers the socket full.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room, or the error of the socket.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        with_socket!(self, socket => SockRef::from(socket).send(bytes))
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

    /// Takes the socket out of the runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot deregister the socket.
    pub(super) fn detach(self) -> io::Result<StreamSocket> {
        Ok(match self {
            Self::Tcp(socket) => {
                StreamSocket::Tcp(mio::net::TcpStream::from_std(socket.into_std()?))
            }
            Self::Unix(socket) => {
                StreamSocket::Unix(mio::net::UnixStream::from_std(socket.into_std()?))
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
        with_socket!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buffer))
    }
}

impl AsyncWrite for AcceptedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}

/// Socket of a detached stream, which never blocks and which a fan-out thread polls.
#[derive(Debug)]
pub enum StreamSocket {
    /// TCP without encryption.
    Tcp(mio::net::TcpStream),
    /// A unix socket.
    Unix(mio::net::UnixStream),
}

impl StreamSocket {
    /// Returns the network of the client; `None` over a unix socket.
    pub(super) fn client(&self) -> Option<ClientNet> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().ok().map(|address| address.ip().into()),
            Self::Unix(_) => None,
        }
    }

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
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    const TOKEN: Token = Token(1);

    /// Whether the socket reports room now.
    fn reports_room(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().any(mio::event::Event::is_writable)
    }

    fn fill(socket: &mut StreamSocket) {
        while socket.write(&[b'x'; 4096]).is_ok() {}
    }

    fn drain(client: &mut mio::net::UnixStream) {
        while client.read(&mut [0; 4096]).is_ok() {}
    }

    #[test]
    fn a_unix_socket_reports_room_only_while_a_write_is_blocked() {
        let mut poll = Poll::new().unwrap();
        let (mut client, accepted) = mio::net::UnixStream::pair().unwrap();
        let mut socket = StreamSocket::Unix(accepted);
        let registry = poll.registry();
        let interest = socket.interest();
        socket.register(registry, TOKEN, interest).unwrap();
        fill(&mut socket);
        drain(&mut client);
        assert!(!reports_room(&mut poll));

        fill(&mut socket);
        socket.set_blocked(poll.registry(), TOKEN, true);
        assert!(!reports_room(&mut poll));
        drain(&mut client);
        assert!(reports_room(&mut poll));

        socket.set_blocked(poll.registry(), TOKEN, false);
        fill(&mut socket);
        drain(&mut client);
        assert!(!reports_room(&mut poll));
    }
}
