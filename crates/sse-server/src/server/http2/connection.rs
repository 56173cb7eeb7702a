//! One connection: accepts its requests until it ends.
//!
//! ```text
//! Head ──► Request, Stream ◄──► Idle      phases in the table of connections
//!              │                 │
//!              ▼                 ▼
//!    stop: GOAWAY at once,   too long, or its place is needed: GOAWAY, and the end
//!    the end when idle
//! ```
//!
//! A connection of the reserve ends like a server that stops: when its requests have their
//! responses.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{Request, Response};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_local,
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    exchange::Exchange,
    head_memory::HeadMemory,
    keepalive::Keepalive,
    limits::{TASKS_MAX, connection_builder},
    write_queue::{KeyUse, QueuedIo, WriteQueue},
};
use crate::{
    connections::{CloseReason, OpenConnection},
    fanout::multiplexed::MultiplexedConnection,
};

/// How long a connection that ends may take for its last bytes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection whose client has chosen HTTP/2.
pub(in crate::server) struct Http2Connection<I> {
    /// Reads and writes plaintext.
    pub(in crate::server) socket: I,
    /// Counts the connection as open, and reports requests to close it.
    pub(in crate::server) connection: OpenConnection,
    /// The address of the client, if it is known.
    pub(in crate::server) peer: Option<SocketAddr>,
}

/// What all connections share.
#[derive(Debug, Clone)]
pub(in crate::server) struct Http2Settings {
    /// Shortest time without progress after which a client is stalled.
    pub(in crate::server) write_timeout: Duration,
    /// Ends the connection once its streams have ended.
    pub(in crate::server) stopping: CancellationToken,
}

/// Serves a connection to its end, with `app` for every request.
///
/// Must run on a thread with a `LocalSet`.
pub(in crate::server) async fn serve_connection<I, S, B>(
    Http2Connection {
        socket,
        connection,
        peer,
    }: Http2Connection<I>,
    Http2Settings {
        write_timeout,
        stopping,
    }: Http2Settings,
    app: Rc<S>,
) where
    I: AsyncRead + AsyncWrite + KeyUse + Unpin + 'static,
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    let connection = MultiplexedConnection::new(connection);
    let (queue, head_memory) = (WriteQueue::default(), HeadMemory::default());
    let io = QueuedIo::new(socket, queue.clone());
    let Some(mut h2) = open_connection(io, &connection).await else {
        return;
    };
    let mut acceptor = Acceptor {
        queue: queue.clone(),
        keepalive: h2.ping_pong().map(Keepalive::new),
        connection,
        stop: Box::pin(stopping.cancelled_owned()),
        is_ending: false,
        last_wait: None,
    };
    let accepted = |respond, connection: &MultiplexedConnection, head| Exchange {
        respond,
        head: Some(head),
        multiplexed: connection.start_request(peer.map(|peer| peer.ip().into())),
        queue: queue.clone(),
        peer,
        write_timeout,
    };
    while let Some((request, mut respond)) = acceptor.next_request(&mut h2).await {
        let head = head_memory.hold(&request);
        if let Some(head) = head.filter(|_| acceptor.connection.request_count() < TASKS_MAX) {
            let exchange = accepted(respond, &acceptor.connection, head);
            spawn_local(exchange.serve(request, app.clone()));
        } else {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    }
}

/// Exchanges the first frames; returns `None` if the connection has ended.
async fn open_connection<I: AsyncRead + AsyncWrite + Unpin>(
    io: I,
    connection: &MultiplexedConnection,
) -> Option<Connection<I, Bytes>> {
    let mut handshake = connection_builder().handshake(io);
    let opened = poll_fn(|cx| {
        if let Some(reason) = connection.poll_close(cx) {
            connection.record_close(reason);
            return Poll::Ready(None);
        }
        Pin::new(&mut handshake).poll(cx).map(Result::ok)
    });
    opened.await
}

/// A request and where its response goes.
type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

/// What a connection waits for.
enum Event {
    Request(Box<Accepted>),
    /// The server is stopping, or the keys of TLS must not encrypt much more.
    Stop,
    /// The connection must be closed.
    Close(CloseReason),
    /// The connection has had no request for a while, and is about to end.
    Finished,
    /// The connection has ended, or its peer is gone.
    Ended,
}

/// Accepts the requests of one connection.
struct Acceptor {
    connection: MultiplexedConnection,
    queue: WriteQueue,
    keepalive: Option<Keepalive>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The client has been sent a GOAWAY.
    is_ending: bool,
    /// Runs while the connection is about to end and has no request.
    last_wait: Option<Pin<Box<Sleep>>>,
}

impl Acceptor {
    /// Waits for a request; returns `None` at the end of the connection.
    async fn next_request<I: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        h2: &mut Connection<I, Bytes>,
    ) -> Option<Accepted> {
        loop {
            match poll_fn(|cx| self.poll_event(cx, h2)).await {
                Event::Request(accepted) => {
                    if self.connection.is_reserved() {
                        self.start_ending(h2);
                    }
                    return Some(*accepted);
                }
                Event::Stop => self.start_ending(h2),
                Event::Close(reason) => {
                    self.connection.record_close(reason);
                    return close(h2).await;
                }
                Event::Finished => return close(h2).await,
                Event::Ended => return None,
            }
        }
    }

    fn poll_event<I: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        h2: &mut Connection<I, Bytes>,
    ) -> Poll<Event> {
        if let Some(reason) = self.connection.poll_close(cx) {
            return Poll::Ready(Event::Close(reason));
        }
        match h2.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => {
                return Poll::Ready(Event::Request(Box::new(accepted)));
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "an HTTP/2 connection ended early");
                return Poll::Ready(Event::Ended);
            }
            Poll::Ready(None) => return Poll::Ready(Event::Ended),
            Poll::Pending => self.queue.record_written(),
        }
        if !self.is_ending && self.queue.is_worn_out() {
            self.connection.set_worn_out();
            return Poll::Ready(Event::Stop);
        }
        let keepalive = self.keepalive.as_mut();
        if keepalive.is_some_and(|keepalive| keepalive.poll_timeout(cx).is_ready()) {
            return Poll::Ready(Event::Ended);
        }
        if self.is_ending {
            self.poll_finished(cx).map(|()| Event::Finished)
        } else {
            self.stop.as_mut().poll(cx).map(|()| Event::Stop)
        }
    }

    /// Waits until the connection has had no request for a while. Most often `h2` ends it before,
    /// when the client has confirmed that it sends no other one.
    fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.poll_idle(cx).is_pending() {
            self.last_wait = None;
            return Poll::Pending;
        }
        let last_wait = self
            .last_wait
            .get_or_insert_with(|| Box::pin(sleep(FLUSH_TIMEOUT)));
        last_wait.as_mut().poll(cx)
    }

    /// Sends the first GOAWAY, after which the client opens no more streams.
    fn start_ending<I: AsyncRead + AsyncWrite + Unpin>(&mut self, h2: &mut Connection<I, Bytes>) {
        self.is_ending = true;
        h2.graceful_shutdown();
    }
}

/// Sends everything that is queued and the last GOAWAY, as far as the client accepts it.
async fn close<I: AsyncRead + AsyncWrite + Unpin, T>(h2: &mut Connection<I, Bytes>) -> Option<T> {
    // A GOAWAY overtakes everything that is queued.
    let _ = poll_fn(|cx| Poll::Ready(h2.poll_closed(cx))).await;
    h2.abrupt_shutdown(Reason::NO_ERROR);
    let _ = timeout(FLUSH_TIMEOUT, poll_fn(|cx| h2.poll_closed(cx))).await;
    None
}
