//! A socket that never waits, with TLS or without.

mod tls;

use std::io::{self, Read, Write};

use mio::net::TcpStream;

pub(crate) use self::tls::TlsTransport;

/// Limit of bytes of one read from a socket. What a TLS session held back before fits into
/// [`DATA_BYTES`] beside them.
const WIRE_BYTES: usize = 46 << 10;
/// Size of the buffer for data.
const DATA_BYTES: usize = 64 << 10;
/// A read that does not fill its buffer has read everything, and epoll reports what arrives later.
/// Other systems may need to return `WouldBlock` once before they report again.
const SHORT_READ_IS_ALL: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A connected socket, or one that is connecting.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsTransport>),
}

/// Memory for received bytes, shared by all connections.
#[derive(Debug)]
pub(crate) struct TransportBuffers {
    /// The data of the last read.
    pub(crate) data: Vec<u8>,
    /// Encrypted bytes.
    wire: Vec<u8>,
}

/// The result of one read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    /// Bytes of data, at the start of [`TransportBuffers::data`].
    pub(crate) data: usize,
    /// Bytes that were read from the socket.
    pub(crate) wire: usize,
    /// The socket has no more bytes at present.
    pub(crate) is_drained: bool,
    /// The server has closed the connection.
    pub(crate) is_end: bool,
}

impl TransportBuffers {
    pub(crate) fn new() -> Self {
        Self {
            data: vec![0; DATA_BYTES],
            wire: vec![0; WIRE_BYTES],
        }
    }
}

impl Transport {
    /// Sends the start of `bytes`, and returns its length. Over TLS, the first call runs the
    /// handshake, and returns `WouldBlock` until it is complete.
    ///
    /// # Errors
    /// `WouldBlock` and `NotConnected` mean that the socket becomes ready later.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.send(bytes),
        }
    }

    /// Sends what the TLS session has to send.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Reads once from the socket.
    pub(crate) fn receive(&mut self, buffers: &mut TransportBuffers) -> io::Result<Received> {
        match self {
            Self::Plain(socket) => {
                let count = socket.read(&mut buffers.data[..WIRE_BYTES])?;
                Ok(Received {
                    data: count,
                    ..Received::from_read(count)
                })
            }
            Self::Tls(tls) => tls.receive(buffers),
        }
    }

    /// Returns the pending error of the socket, such as that of the connect.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Plain(socket) => socket.take_error(),
            Self::Tls(tls) => tls.take_error(),
        }
    }

    /// Returns the protocol that was chosen in the TLS handshake (ALPN).
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.protocol(),
        }
    }
}

impl Received {
    /// The result of a read of this many bytes.
    const fn from_read(count: usize) -> Self {
        Self {
            data: 0,
            wire: count,
            is_drained: SHORT_READ_IS_ALL && count < WIRE_BYTES,
            is_end: count == 0,
        }
    }
}

/// Returns `true` if the socket is still connecting or full. Its readiness is reported later.
pub(crate) fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}
