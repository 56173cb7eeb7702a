//! From an accepted socket to a connection that is ready for HTTP.
//!
//! ```text
//! limits ─► options ─► PROXY header ─► TLS handshake ─► ALPN ─► HTTP/1 or HTTP/2
//!                      (?proxy=v2)     (https://)
//! ```
//!
//! A connection counts as open from the start. Until it is ready, its end can be requested to make
//! room for others, like that of a connection whose request has not arrived.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    handshake::{HandshakeError, Handshaker},
    handshake_threads::HandshakeThreads,
    http2::Http2Connection,
    protocol_errors::ProtocolErrorLog,
    proxy_header::{ProxyHeaderError, read_proxy_header},
};
use crate::{
    ListenAddress,
    budget::ClientNet,
    connections::{CloseReason, ConnectionTable, OpenConnection, Phase},
    fanout::{detach::DetachableSocket, socket::AcceptedSocket, stall, tls_socket::TlsSocket},
    http::TrustedProxies,
    metrics::{HandshakeResult, Metrics},
};

/// Descriptors that must be free. Below that, a new connection needs the place of another one.
const FREE_FILES_MIN: usize = 16;
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes that are on their way to a subscriber, or wait in the kernel.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Bytes that wait in a unix socket until the client has read them. Linux doubles the number, and
/// counts its own overhead.
const UNIX_SEND_BUFFER_BYTES: usize = 64 << 10;
/// How long a PROXY header may take, and how long a handshake may.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The same for a connection of the reserve.
const RESERVED_HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// The protocol of ALPN that leads to HTTP/2 (RFC 9113 §3.1).
const HTTP_2: &[u8] = b"h2";

/// An accepted connection and the address of its client, if it is known.
pub(super) type Accepted = (DetachableSocket, Option<SocketAddr>);

/// A connection that is ready for HTTP.
pub(super) enum ReadyConnection {
    Http1(Accepted),
    Http2(Http2Connection<AcceptedSocket>),
}

/// Accepts connections up to a limit.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    /// The connections of all listeners together.
    pub(super) connections: ConnectionTable,
    /// The limit of `connections`.
    pub(super) connections_max: usize,
    /// Descriptors of the process.
    pub(super) files_max: usize,
    /// Proxies, to which the limit of one client does not apply.
    pub(super) trusted_proxies: TrustedProxies,
    /// Shortest time without progress after which a client is stalled.
    pub(super) write_timeout: Duration,
    /// How TLS is set up, and the threads for handshakes; `None` without certificates.
    pub(super) tls: Option<(Arc<ServerConfig>, HandshakeThreads)>,
    /// Ends handshakes when the server stops.
    pub(super) stopping: CancellationToken,
    pub(super) log: ProtocolErrorLog,
    pub(super) metrics: Metrics,
}

/// Why a connection does not become ready.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("the server is stopping")]
    Stopping,
    #[error("it made room for another connection")]
    Evicted(CloseReason),
    #[error("it took too long")]
    TimedOut,
    #[error(transparent)]
    Proxy(#[from] ProxyHeaderError),
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    #[error("no room")]
    NoRoom,
}

/// Accepts the connections of one listener in one worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerAcceptor {
    acceptor: Acceptor,
    requires_proxy_header: bool,
    /// `None` if the listener has no TLS.
    handshaker: Option<Handshaker>,
}

impl WorkerAcceptor {
    pub(super) fn new(acceptor: Acceptor, address: &ListenAddress) -> Self {
        let tls = acceptor.tls.clone().filter(|_| address.uses_tls());
        Self {
            requires_proxy_header: address.requires_proxy_header(),
            handshaker: tls.map(|(settings, threads)| Handshaker::new(settings, threads)),
            acceptor,
        }
    }

    /// Prepares an accepted socket; returns `None`, and closes it, if there is no room for it or if
    /// its client does not do what the address requires.
    pub(super) async fn accept(&self, socket: AcceptedSocket) -> Option<ReadyConnection> {
        let peer = socket.peer_address();
        let prepared = self.prepare(socket, peer).await;
        prepared.inspect_err(|error| self.report(peer, error)).ok()
    }

    async fn prepare(
        &self,
        mut socket: AcceptedSocket,
        peer: Option<SocketAddr>,
    ) -> Result<ReadyConnection, NotReady> {
        let (connection, peer) = self.open(&mut socket, peer).await?;
        let socket = match (&self.handshaker, socket) {
            (Some(handshaker), AcceptedSocket::Tcp(tcp)) => {
                let session = self.shake_hands(handshaker, tcp, &connection).await?;
                if session.alpn() == Some(HTTP_2) {
                    connection.set_phase(Phase::Head);
                    return Ok(ReadyConnection::Http2(Http2Connection {
                        socket: session.into(),
                        connection,
                        peer,
                    }));
                }
                session.into()
            }
            (_, plain) => plain,
        };
        connection.set_phase(Phase::Head);
        let write_timeout = self.acceptor.write_timeout;
        let socket = DetachableSocket::new(socket, connection, write_timeout);
        Ok(ReadyConnection::Http1((socket, peer)))
    }

    /// Counts a connection as open, for the client that its PROXY header names if the address
    /// requires one. Returns the address of that client, too.
    async fn open(
        &self,
        socket: &mut AcceptedSocket,
        peer: Option<SocketAddr>,
    ) -> Result<(OpenConnection, Option<SocketAddr>), NotReady> {
        let acceptor = &self.acceptor;
        if !self.requires_proxy_header {
            let connection = acceptor.open(socket, peer)?;
            acceptor.set_options(socket);
            return Ok((connection, peer));
        }
        // Until its header has arrived, the client is unknown.
        let connection = acceptor.open(socket, None)?;
        connection.set_phase(Phase::ProxyHeader);
        acceptor.set_options(socket);
        let header = timeout(time_max(&connection), read_proxy_header(socket));
        let header = acceptor.until_closed(&connection, header).await?;
        let peer = header.map_err(|_| NotReady::TimedOut)??.or(peer);
        drop(connection);
        Ok((acceptor.open(socket, peer)?, peer))
    }

    async fn shake_hands(
        &self,
        handshaker: &Handshaker,
        socket: TcpStream,
        connection: &OpenConnection,
    ) -> Result<TlsSocket, NotReady> {
        let client = connection.client_net();
        let handshake = handshaker.shake_hands(socket, client, time_max(connection));
        let result = self.acceptor.until_closed(connection, handshake).await?;
        if let Some(counted) = counted_result(&result) {
            self.acceptor.metrics.handshake_ended(counted);
        }
        if counted_result(&result) == Some(HandshakeResult::TimedOut) {
            connection.record_close(CloseReason::HandshakeTimeout);
        }
        Ok(result?)
    }

    /// Logs why a connection does not become ready, if that is of interest to the operator.
    fn report(&self, client: Option<SocketAddr>, error: &NotReady) {
        let log = &self.acceptor.log;
        match error {
            NotReady::Proxy(error @ (ProxyHeaderError::Missing | ProxyHeaderError::Malformed)) => {
                log.warn_about_proxy_header(client, error);
            }
            NotReady::Tls(error @ HandshakeError::NotTls) => log.warn_about_tls(client, error),
            _ => tracing::debug!(?client, %error, "a connection ended before its first request"),
        }
    }
}

impl Acceptor {
    /// Counts a connection as open.
    fn open(
        &self,
        socket: &AcceptedSocket,
        client: Option<SocketAddr>,
    ) -> Result<OpenConnection, NotReady> {
        let client = client.map(|client| client.ip());
        let client = client.filter(|address| !self.trusted_proxies.contains(*address));
        let client = client.map(ClientNet::from);
        let is_short_of_files = self.is_short_of_files(socket);
        let connection = self.connections.accept(client, is_short_of_files);
        let connection = connection.ok_or(NotReady::NoRoom)?;
        connection.set_phase(Phase::Handshake);
        Ok(connection)
    }

    /// Waits for `work`, unless the connection must be closed.
    async fn until_closed<T>(
        &self,
        connection: &OpenConnection,
        work: impl Future<Output = T>,
    ) -> Result<T, NotReady> {
        let must_close = poll_fn(|cx| match connection.poll_close(cx) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        });
        tokio::select! {
            biased;
            result = work => Ok(result),
            reason = must_close => {
                connection.record_close(reason);
                Err(NotReady::Evicted(reason))
            }
            () = self.stopping.cancelled() => Err(NotReady::Stopping),
        }
    }

    /// Whether almost all descriptors are in use. A new descriptor has the lowest free number.
    fn is_short_of_files(&self, socket: &AcceptedSocket) -> bool {
        socket.descriptor().saturating_add(FREE_FILES_MIN) >= self.files_max
    }

    /// Sets the options of a socket. A connection works without any of them, so errors are
    /// ignored.
    fn set_options(&self, socket: &AcceptedSocket) {
        match socket {
            AcceptedSocket::Tcp(socket) => self.set_tcp_options(socket),
            AcceptedSocket::Unix(socket) => {
                let _ = SockRef::from(socket).set_send_buffer_size(UNIX_SEND_BUFFER_BYTES);
            }
            // TLS begins later.
            AcceptedSocket::Tls(_) => {}
        }
    }

    fn set_tcp_options(&self, socket: &TcpStream) {
        let _ = socket.set_nodelay(true);
        let socket = SockRef::from(socket);
        let _ = socket.set_tcp_keepalive(&keepalive());
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        {
            let user_timeout = stall::user_timeout(self.write_timeout);
            let _ = socket.set_tcp_notsent_lowat(stall::UNSENT_BYTES);
            let _ = socket.set_tcp_user_timeout(Some(user_timeout));
        }
    }
}

/// Returns how a handshake counts. A health check that only connects does not.
fn counted_result(result: &Result<TlsSocket, HandshakeError>) -> Option<HandshakeResult> {
    Some(match result {
        Ok(session) if session.is_resumed() => HandshakeResult::Resumed,
        Ok(_) => HandshakeResult::Full,
        Err(HandshakeError::Unused) => return None,
        Err(HandshakeError::TimedOut | HandshakeError::NoTurn | HandshakeError::Silent) => {
            HandshakeResult::TimedOut
        }
        Err(_) => HandshakeResult::Failed,
    })
}

/// Returns how long a PROXY header, and how long a handshake may take.
fn time_max(connection: &OpenConnection) -> Duration {
    if connection.is_reserved() {
        RESERVED_HANDSHAKE_MAX
    } else {
        HANDSHAKE_MAX
    }
}

const fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE)
}
