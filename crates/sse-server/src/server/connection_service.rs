//! From an accepted socket to HTTP.
//!
//! This file does what actix-web's `HttpServer` does, with one difference: HTTP runs over a
//! [`DetachableSocket`], out of which a stream can take its socket.
//!
//! ```text
//! actix accepts ── TcpStream ──> Acceptor::accept ── DetachableSocket ──> http_service ──> handlers
//!                                 limits, options                    HTTP/1
//! ```
//!
//! Only the [`Acceptor`] and its caller know the type of the socket. Another transport, such as TLS,
//! is a stage between accepting and HTTP.

use std::{
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_http::{Extensions, HttpService, Request, error::DispatchError};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{
    IntoServiceFactory as _, Service as _, ServiceFactory, ServiceFactoryExt as _,
    apply_fn_factory, fn_service, map_config,
};
use actix_web::{
    App,
    dev::AppConfig,
    middleware::{Condition, from_fn},
    rt::net::TcpStream,
};
use socket2::{SockRef, TcpKeepalive};

use super::{cores, protocol_errors::ProtocolErrorLog, shutdown::PUBLISH_TIMEOUT_S};
use crate::{
    fanout::{
        detach::{DetachableSocket, OpenConnections},
        stall::{self, stall_timeout_max},
    },
    http::{self, AppState},
};

const KEEP_ALIVE: Duration = Duration::from_secs(75);
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays open whose request body was not read to its end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer may acknowledge nothing, beyond the write timeout. Linux also closes the
/// connection of a peer that acknowledges but has no room for data.
const USER_TIMEOUT: Duration = Duration::from_mins(1);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes that are on their way to a subscriber, or wait in the kernel.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Bytes that actix buffers per connection before it stops asking a body for more.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// An accepted connection and the address of its peer, if it is known.
type Accepted = (DetachableSocket, Option<SocketAddr>);

/// Serves HTTP on `listener` with one worker thread per core.
pub(super) fn serve(
    listener: TcpListener,
    state: AppState,
    connections_max: usize,
    write_timeout: Duration,
) -> io::Result<Server> {
    let workers = cores();
    let acceptor = Acceptor {
        open: OpenConnections::default(),
        connections_max,
        write_timeout,
    };
    let log = ProtocolErrorLog::default();
    let builder = Server::build();
    let shutdown = builder.graceful_shutdown_signal();
    let builder = builder
        .workers(workers)
        .max_concurrent_connections((connections_max / workers).max(1))
        .shutdown_timeout(PUBLISH_TIMEOUT_S)
        .disable_signals()
        .listen("sse-server", listener, move || {
            let acceptor = acceptor.clone();
            fn_service(move |socket: TcpStream| {
                ready(
                    acceptor
                        .accept(socket)
                        .ok_or(DispatchError::DisconnectTimeout),
                )
            })
            .and_then(logged(
                http_service(state.clone(), shutdown.clone()),
                log.clone(),
            ))
        })?;
    Ok(builder.run())
}

/// Accepts connections up to a limit.
#[derive(Clone)]
struct Acceptor {
    open: OpenConnections,
    connections_max: usize,
    write_timeout: Duration,
}

impl Acceptor {
    /// Prepares an accepted socket; returns `None`, and closes it, if too many are open.
    ///
    /// The limit is checked here as well as by actix, which does not count the sockets that streams
    /// have taken.
    fn accept(&self, socket: TcpStream) -> Option<Accepted> {
        if self.open.count() >= self.connections_max {
            return None;
        }
        self.set_options(&socket);
        let peer = socket.peer_addr().ok();
        Some((
            DetachableSocket::new(socket, &self.open, self.write_timeout),
            peer,
        ))
    }

    /// Sets the options of a socket. A connection works without any of them, so errors are
    /// ignored.
    fn set_options(&self, socket: &TcpStream) {
        let _ = socket.set_nodelay(true);
        let socket = SockRef::from(socket);
        let _ = socket.set_tcp_keepalive(&keepalive());
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        {
            let user_timeout = stall_timeout_max(self.write_timeout).saturating_add(USER_TIMEOUT);
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
fn http_service(state: AppState, shutdown: GracefulShutdownSignal) -> impl ConnectionService {
    let address = state.address;
    let limits = state.limits;
    let access_log = state.access_log.clone();
    let app = App::new()
        .wrap(from_fn(http::apply_cors))
        .wrap(from_fn(http::ignore_upgrade))
        // It also sees the responses of the other middlewares.
        .wrap(from_fn(http::add_common_headers))
        .wrap(Condition::new(
            access_log.is_some(),
            from_fn(http::log_requests),
        ))
        .configure(move |config| http::routes(config, state))
        .into_factory()
        .map_err(|error: actix_web::Error| error.error_response());
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let shutdown = shutdown.clone();
            async move { shutdown.notified().await }
        })
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // With half-closed connections, a subscriber that closes its side would be noticed only
        // when the next event cannot be written.
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .local_addr(address)
        .expect(fn_service(move |request: Request| {
            ready(http::check_expectation(
                request,
                &limits,
                access_log.as_ref(),
            ))
        }))
        .on_connect_ext(|connection: &DetachableSocket, data: &mut Extensions| {
            data.insert(connection.clone());
        })
        .h1(map_config(app, |()| AppConfig::default()))
}
