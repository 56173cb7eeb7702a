//! From an accepted socket to HTTP.
//!
//! This file does what actix-web's `HttpServer` does, with one difference: HTTP runs over a
//! [`DetachableSocket`], out of which a stream can take its socket.
//!
//! ```text
//!                  TCP or unix socket
//! actix accepts ── AcceptedSocket ──> accept ─┬─ DetachableSocket ──> http_service ──> handlers
//!                                      limits │                    HTTP/1
//!                                      TLS    └─ Http2Connection ───> http2 ─────────> handlers
//! ```
//!
//! Only `accept` and its caller know the type of the socket.

use std::{future::ready, io, rc::Rc, time::Duration};

use actix_http::{Extensions, HttpService, KeepAlive, Request, error::DispatchError};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{
    Service as _, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_factory, fn_service,
    map_config,
};
use actix_web::{
    dev::AppConfig,
    rt::net::{TcpStream, UnixStream},
};
use futures::{FutureExt as _, future::Either};

use super::{
    accept::{Accepted, Acceptor, ReadyConnection, WorkerAcceptor},
    app::{AppFactory, app},
    cores,
    http2::{Http2Settings, serve_connection},
    listen::{Listener, ListeningSocket},
    protocol_errors::ProtocolErrorLog,
    service_manager::WorkerRegistry,
    shutdown::PUBLISH_TIMEOUT_S,
    track_requests::track_requests,
};
use crate::{
    ListenAddress,
    fanout::{detach::DetachableSocket, socket::AcceptedSocket},
    http::{self, AppState},
};

/// Connections that actix may have accepted beyond the limit. Each of them is closed at once, so
/// this bounds only those that a worker has not seen yet.
const QUEUED_MAX: usize = 64;
/// How long a connection stays open whose request body was not read to its end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that actix buffers per connection before it stops asking a body for more.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// The protocols that clients are offered over TLS, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Name of the service in the log of actix-server.
const SERVICE: &str = "sse-server";

/// Serves HTTP on all `listeners` with one worker thread per core. The workers register in `registry`.
pub(super) fn serve(
    listeners: Vec<Listener>,
    state: &AppState,
    acceptor: &Acceptor,
    registry: &WorkerRegistry,
) -> io::Result<Server> {
    let workers = cores();
    // Beyond its own limit actix would accept nothing, and all clients would wait.
    let accepted_max = acceptor.connections_max.saturating_add(QUEUED_MAX);
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
            registry: registry.clone(),
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

/// Returns the protocols that clients are offered over TLS.
pub(super) fn offered_protocols(http2: bool) -> &'static [&'static [u8]] {
    if http2 { &ALPN } else { &ALPN[1..] }
}

/// What serves the connections of one listener.
#[derive(Clone)]
struct Connections {
    acceptor: Acceptor,
    state: AppState,
    address: ListenAddress,
    shutdown: GracefulShutdownSignal,
    registry: WorkerRegistry,
}

impl Connections {
    /// Creates the service of accepted sockets for one worker.
    fn service<S: Into<AcceptedSocket> + 'static>(
        &self,
    ) -> impl ServiceFactory<S, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<S>
    {
        let http = http_service(
            self.state.clone(),
            self.address.clone(),
            self.shutdown.clone(),
        );
        // Every worker calls this once.
        self.registry.add_current();
        let acceptor = WorkerAcceptor::new(self.acceptor.clone(), &self.address);
        fn_service(move |socket: S| {
            let acceptor = acceptor.clone();
            async move {
                let ready = acceptor.accept(socket.into()).await;
                ready.ok_or(DispatchError::DisconnectTimeout)
            }
        })
        .and_then(by_protocol(
            logged(http, self.acceptor.log.clone()),
            app(self.state.clone(), self.address.clone()),
            Http2Settings {
                write_timeout: self.acceptor.write_timeout,
                stopping: self.state.streams.stopping.clone(),
            },
        ))
    }
}

/// Serves each connection in the protocol that its client has chosen. `app` serves HTTP/2.
fn by_protocol(
    http_1: impl ConnectionService + 'static,
    app: impl AppFactory + 'static,
    settings: Http2Settings,
) -> impl ServiceFactory<
    ReadyConnection,
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let (http_1, app) = (Rc::new(http_1), Rc::new(app));
    fn_factory(move || {
        let (http_1, app, settings) = (http_1.clone(), app.clone(), settings.clone());
        async move {
            let http_1 = Rc::new(http_1.new_service(()).await?);
            let app = Rc::new(app.new_service(AppConfig::default()).await?);
            Ok(fn_service(move |connection| match connection {
                ReadyConnection::Http1(accepted) => Either::Left(http_1.call(accepted)),
                ReadyConnection::Http2(connection) => {
                    let served = serve_connection(connection, settings.clone(), app.clone());
                    Either::Right(served.map(Ok))
                }
            }))
        }
    })
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
    let (expecting, expecting_at) = (state.clone(), address.clone());
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
            ready(http::check_expectation(request, &expecting, &expecting_at))
        }))
        .on_connect_ext(|connection: &DetachableSocket, data: &mut Extensions| {
            data.insert(connection.clone());
        })
        .h1(map_config(track_requests(app), |()| AppConfig::default()))
}
