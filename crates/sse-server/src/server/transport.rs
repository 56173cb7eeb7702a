//! From an accepted socket to HTTP.
//!
//! This file does what actix-web's `HttpServer` does, with one difference: HTTP runs over a
//! [`DetachableSocket`], out of which a stream can take its socket.
//!
//! ```text
//!                  TCP or unix socket
//! actix accepts ── AcceptedSocket ──> Acceptor::accept ── DetachableSocket ──> http_service ──> handlers
//!                                      limits, options                    HTTP/1
//! ```
//!
//! Only the [`Acceptor`] and its caller know the type of the socket. Another transport, such as
//! TLS, is a stage between accepting and HTTP.

use std::{future::ready, io, net::SocketAddr, time::Duration};

use actix_http::{Extensions, HttpService, KeepAlive, Request, error::DispatchError};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{
    Service as _, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::{
    dev::AppConfig,
    rt::net::{TcpStream, UnixStream},
};
use socket2::{SockRef, TcpKeepalive};

use super::{
    app::app,
    cores,
    listen::{Listener, ListeningSocket},
    protocol_errors::ProtocolErrorLog,
    shutdown::PUBLISH_TIMEOUT_S,
    track_requests::track_requests,
};
use crate::{
    ListenAddress,
    connections::ConnectionTable,
    fanout::{detach::DetachableSocket, socket::AcceptedSocket, stall},
    http::{self, AppState},
};

/// Connections that actix may have accepted beyond the limit. Each of them is closed at once, so
/// this bounds only those that a worker has not seen yet.
const QUEUED_MAX: usize = 64;
/// Descriptors that must be free. Below that, a new connection needs the place of another one.
const FREE_FILES_MIN: usize = 16;
/// How long a connection stays open whose request body was not read to its end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes that are on their way to a subscriber, or wait in the kernel.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Bytes that wait in a unix socket until the client has read them. Linux doubles the number, and
/// counts its own overhead.
const UNIX_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that actix buffers per connection before it stops asking a body for more.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// An accepted connection and the address of its peer, if it is known.
type Accepted = (DetachableSocket, Option<SocketAddr>);

/// Name of the service in the log of actix-server.
const SERVICE: &str = "sse-server";

/// Accepts connections up to a limit.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    /// The connections of all listeners together.
    pub(super) connections: ConnectionTable,
    /// The limit of `connections`.
    pub(super) connections_max: usize,
    /// Descriptors of the process.
    pub(super) files_max: usize,
    /// Shortest time without progress after which a client is stalled.
    pub(super) write_timeout: Duration,
}

/// Serves HTTP on all `listeners` with one worker thread per core.
pub(super) fn serve(
    listeners: Vec<Listener>,
    state: &AppState,
    acceptor: &Acceptor,
) -> io::Result<Server> {
    let workers = cores();
    // Beyond its own limit actix would accept nothing, and all clients would wait.
    let accepted_max = acceptor.connections_max.saturating_add(QUEUED_MAX);
    let log = ProtocolErrorLog::default();
    let mut builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(accepted_max.div_ceil(workers))
        .shutdown_timeout(PUBLISH_TIMEOUT_S)
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    for Listener { address, socket } in listeners {
        let connections = Connections {
            acceptor: acceptor.clone(),
            state: state.clone(),
            address,
            shutdown: shutdown.clone(),
            log: log.clone(),
        };
        builder = match socket {
            ListeningSocket::Tcp(socket) => {
                builder.listen(SERVICE, socket, move || connections.service::<TcpStream>())?
            }
            ListeningSocket::Unix(socket) => {
                builder.listen_uds(SERVICE, socket, move || connections.service::<UnixStream>())?
            }
        };
    }
    Ok(builder.run())
}

/// What serves the connections of one listener.
#[derive(Clone)]
struct Connections {
    acceptor: Acceptor,
    state: AppState,
    address: ListenAddress,
    shutdown: GracefulShutdownSignal,
    log: ProtocolErrorLog,
}

impl Connections {
    /// Creates the service of accepted sockets for one worker.
    fn service<S: Into<AcceptedSocket> + 'static>(
        &self,
    ) -> impl ServiceFactory<S, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<S>
    {
        let acceptor = self.acceptor.clone();
        let http = http_service(
            self.state.clone(),
            self.address.clone(),
            self.shutdown.clone(),
        );
        fn_service(move |socket: S| {
            let accepted = acceptor.accept(socket.into());
            ready(accepted.ok_or(DispatchError::DisconnectTimeout))
        })
        .and_then(logged(http, self.log.clone()))
    }
}

impl Acceptor {
    /// Prepares an accepted socket; returns `None`, and closes it, if there is no room for it.
    fn accept(&self, socket: AcceptedSocket) -> Option<Accepted> {
        let peer = socket.peer_address();
        let client = peer.map(|peer| peer.ip().into());
        let connection = self
            .connections
            .accept(client, self.is_short_of_files(&socket))?;
        self.set_options(&socket);
        let socket = DetachableSocket::new(socket, connection, self.write_timeout);
        Some((socket, peer))
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

const fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE)
}

/// A service of connections.
trait ConnectionService:
    ServiceFactory<Accepted, Config = (), Response = (), Error = DispatchError, InitError = ()>
{
}

impl<T> ConnectionService for T where
    T: ServiceFactory<Accepted, Config = (), Response = (), Error = DispatchError, InitError = ()>
{
}

/// Logs the connections that fail in `service`.
fn logged(service: impl ConnectionService, log: ProtocolErrorLog) -> impl ConnectionService {
    apply_fn_factory(service, move |accepted: Accepted, service| {
        let (log, client) = (log.clone(), accepted.1);
        let result = service.call(accepted);
        async move { result.await.inspect_err(|error| log.record(client, error)) }
    })
}

/// HTTP/1 over connections of any transport, with the routes and CORS.
fn http_service(
    state: AppState,
    address: ListenAddress,
    shutdown: GracefulShutdownSignal,
) -> impl ConnectionService {
    let limits = state.limits;
    let rejections = state.rejections.clone();
    let access_log = state.access_log.clone();
    let app = app(state, address);
    // The table of connections limits the times of heads and of idle connections. actix would limit
    // only the first head of a connection.
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let shutdown = shutdown.clone();
            async move { shutdown.notified().await }
        })
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // With half-closed connections, a subscriber that closes its side would be noticed only
        // when the next event cannot be written.
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .expect(fn_service(move |request: Request| {
            ready(http::check_expectation(
                request,
                &limits,
                &rejections,
                access_log.as_ref(),
            ))
        }))
        .on_connect_ext(|connection: &DetachableSocket, data: &mut Extensions| {
            data.insert(connection.clone());
        })
        .h1(map_config(track_requests(app), |()| AppConfig::default()))
}
