//! The access log of requests: one line per request, when its response has been sent.
//!
//! A stream has a line when its response begins, and its [`StreamRecord`] makes another one when it
//! ends, wherever its socket is by then.
//!
//! Requests that actix rejects while it reads their head, with 400, 408 or 431, never become a
//! request, and have no line.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use actix_http::RequestHead;
use actix_web::{
    Error, HttpRequest,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode, Uri, Version,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;

use super::state::AppState;
use crate::access_log::{AccessLog, Line, LineKind, Protocol, StreamRecord};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Status in the log of a request whose client was gone before there was a response, as in nginx.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the access log reports about a response beyond its status. Handlers put it into the
/// extensions of a response.
#[derive(Debug, Clone, Copy)]
pub(super) enum ResponseNote {
    /// The response is a stream that has a record.
    StreamStart,
    /// The response is for a stream that was rejected, for this reason.
    Rejected(&'static str),
}

/// Middleware: logs each request.
///
/// # Errors
///
/// Those of the services inside.
pub async fn log_requests<B: MessageBody + 'static>(
    state: LocalData<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<LoggedBody>, Error> {
    let Some(log) = &state.access_log else {
        return Ok(next
            .call(request)
            .await?
            .map_body(|_, body| LoggedBody::new(body, None)));
    };
    let mut line = PendingLine::new(log.clone(), request.head(), peer_ip(request.peer_addr()));
    let response = next.call(request).await.inspect_err(|error| {
        line.status = Some(error.as_response_error().status_code());
    })?;
    line.status = Some(response.status());
    match response.response().extensions().get() {
        Some(ResponseNote::StreamStart) => line.kind = LineKind::StreamStart,
        Some(ResponseNote::Rejected(reason)) => line.reason = Some(reason),
        None => {}
    }
    // A stream counts its own bytes.
    let line = (line.kind == LineKind::Request).then_some(line);
    Ok(response.map_body(|_, body| LoggedBody::new(body, line)))
}

/// Logs a request that is rejected before the app sees it.
pub(super) fn log_rejection<B: MessageBody>(
    log: &AccessLog,
    request: &actix_http::Request,
    response: &actix_http::Response<B>,
) {
    let mut line = PendingLine::new(log.clone(), request.head(), peer_ip(request.peer_addr()));
    line.status = Some(response.status());
    if let BodySize::Sized(bytes) = response.body().size() {
        line.bytes = bytes;
    }
}

/// Starts the record of a stream.
pub(super) fn stream_record(log: &AccessLog, request: &HttpRequest) -> StreamRecord {
    StreamRecord::new(
        log.clone(),
        peer_ip(request.peer_addr()),
        target(request.uri()),
        protocol(request.version()),
    )
}

/// The address of a client without its port; `None` over a Unix socket.
fn peer_ip(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|address| address.ip())
}

/// Path and query as the client sent them. A target in absolute form is logged without its host,
/// which may have a password before it.
fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("-", |target| target.as_str())
}

const fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_10 => Protocol::Http10,
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http11,
    }
}

/// The line of a request whose response is not complete. It is recorded on drop.
#[derive(Debug)]
struct PendingLine {
    log: AccessLog,
    kind: LineKind,
    started: Instant,
    address: Option<IpAddr>,
    method: Method,
    uri: Uri,
    version: Version,
    last_id: Option<HeaderValue>,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    bytes: u64,
    reason: Option<&'static str>,
}

impl PendingLine {
    /// The line is boxed, because the response moves it several times.
    fn new(log: AccessLog, head: &RequestHead, address: Option<IpAddr>) -> Box<Self> {
        Box::new(Self {
            log,
            kind: LineKind::Request,
            started: Instant::now(),
            address,
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            last_id: head.headers.get(LAST_EVENT_ID).cloned(),
            status: None,
            bytes: 0,
            reason: None,
        })
    }

    /// Counts bytes of the body. The response to a `HEAD` has a body that is not sent.
    fn add_bytes(&mut self, bytes: usize) {
        if self.method != Method::HEAD {
            self.bytes += bytes as u64;
        }
    }
}

impl Drop for PendingLine {
    fn drop(&mut self) {
        let last_id = self.last_id.as_ref().map(HeaderValue::as_bytes);
        let last_id = last_id.map(String::from_utf8_lossy);
        let no_response = self.status.is_none().then_some("no_response");
        self.log.record(Line {
            kind: self.kind,
            time: SystemTime::now(),
            address: self.address,
            method: self.method.as_str(),
            target: target(&self.uri),
            protocol: protocol(self.version),
            status: self
                .status
                .map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16()),
            bytes: self.bytes,
            duration: self.started.elapsed(),
            last_id: last_id.as_deref(),
            reason: self.reason.or(no_response),
        });
    }
}

/// A body that counts its bytes for the line of its request.
#[derive(Debug)]
pub struct LoggedBody {
    body: BoxBody,
    line: Option<Box<PendingLine>>,
}

impl LoggedBody {
    fn new(body: impl MessageBody + 'static, line: Option<Box<PendingLine>>) -> Self {
        let body = body.boxed();
        Self { body, line }
    }
}

impl MessageBody for LoggedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = self.body.as_pin_mut().poll_next(cx);
        if let (Poll::Ready(Some(Ok(bytes))), Some(line)) = (&polled, &mut self.line) {
            line.add_bytes(bytes.len());
        }
        polled
    }
}
