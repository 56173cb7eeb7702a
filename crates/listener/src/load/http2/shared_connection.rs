//! One connection, from its handshake to its end.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::Request;

use super::socket::{Readiness, SharedSocket};
use crate::load::connection::http2_error_kind;

/// Bytes of one stream that the server may send without an update of the window. Browsers allow
/// several MiB, too.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of all streams.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection and the streams that wait for it.
pub(crate) struct SharedConnection {
    state: ConnectionState,
    waker: Waker,
    /// Streams whose requests are sent after the handshake.
    pub(crate) waiting: Vec<u32>,
    /// Index of the node that it leads to.
    pub(crate) node: usize,
    pub(crate) readiness: Rc<Readiness>,
}

enum ConnectionState {
    Closed,
    Opening {
        handshake: Handshake,
        since: Instant,
    },
    Open {
        requests: SendRequest<Bytes>,
        connection: Box<Http2Connection>,
    },
}

type Http2Connection = Connection<SharedSocket, Bytes>;
type Handshake =
    Pin<Box<dyn Future<Output = Result<(SendRequest<Bytes>, Http2Connection), h2::Error>>>>;

/// What a poll of a connection has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionChange {
    /// The connection waits for its socket, or is closed.
    None,
    /// The handshake is complete.
    Opened,
    /// The connection has ended, with an error of this kind.
    Closed(&'static str),
}

impl SharedConnection {
    /// A connection that was not made yet.
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            state: ConnectionState::Closed,
            waker,
            waiting: Vec::new(),
            node: 0,
            readiness: Rc::default(),
        }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionState::Closed)
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, ConnectionState::Open { .. })
    }

    /// Begins the handshakes of TLS and HTTP/2 on a socket that is connecting.
    pub(crate) fn open(&mut self, socket: SharedSocket, now: Instant) {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let handshake = async move { builder.handshake(socket).await };
        self.state = ConnectionState::Opening {
            handshake: Box::pin(handshake),
            since: now,
        };
    }

    /// Closes a connection whose handshake takes longer than `time_max`.
    pub(crate) fn close_if_overdue(&mut self, now: Instant, time_max: Duration) {
        if let ConnectionState::Opening { since, .. } = self.state
            && now.saturating_duration_since(since) >= time_max
        {
            self.state = ConnectionState::Closed;
        }
    }

    /// Lets the connection read and write.
    pub(crate) fn poll(&mut self) -> ConnectionChange {
        let mut context = Context::from_waker(&self.waker);
        let closed = match &mut self.state {
            ConnectionState::Closed => return ConnectionChange::None,
            ConnectionState::Opening { handshake, .. } => {
                match handshake.as_mut().poll(&mut context) {
                    Poll::Pending => return ConnectionChange::None,
                    Poll::Ready(Ok((requests, connection))) => {
                        let connection = Box::new(connection);
                        self.state = ConnectionState::Open {
                            requests,
                            connection,
                        };
                        return ConnectionChange::Opened;
                    }
                    Poll::Ready(Err(error)) => http2_error_kind(&error),
                }
            }
            ConnectionState::Open { connection, .. } => {
                match Pin::new(connection.as_mut()).poll(&mut context) {
                    Poll::Pending => return ConnectionChange::None,
                    Poll::Ready(Ok(())) => "connection closed",
                    Poll::Ready(Err(error)) => http2_error_kind(&error),
                }
            }
        };
        // Its streams are woken, and report the error.
        self.state = ConnectionState::Closed;
        ConnectionChange::Closed(closed)
    }

    /// Sends a request with its body.
    ///
    /// # Errors
    /// The connection accepts no request.
    pub(crate) fn send(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<ResponseFuture, &'static str> {
        let ConnectionState::Open { requests, .. } = &mut self.state else {
            return Err("connection closed");
        };
        let kind = |error: h2::Error| http2_error_kind(&error);
        // A clone is always ready: requests beyond the server's limit wait in h2.
        let mut requests = requests.clone();
        let (response, mut sender) = requests
            .send_request(request, body.is_none())
            .map_err(kind)?;
        if let Some(body) = body {
            sender.send_data(body, true).map_err(kind)?;
        }
        Ok(response)
    }
}
