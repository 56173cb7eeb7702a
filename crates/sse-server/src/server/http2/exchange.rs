//! One request and its response.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, task::Poll, time::Duration};

use actix_http::{HttpMessage as _, Request, Response};
use actix_service::Service;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    http::{Method, header},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};

use super::{
    head_memory::HeldHead, request_body::RequestBody, request_head::convert_request,
    response_body::BodySender, response_head::convert_head, write_queue::WriteQueue,
};
use crate::fanout::multiplexed::MultiplexedStream;

/// A request that has no response yet.
pub(super) struct Exchange {
    pub(super) respond: SendResponse<Bytes>,
    /// Counts the head until there is a response.
    pub(super) head: Option<HeldHead>,
    /// The request as its connection counts it.
    pub(super) multiplexed: MultiplexedStream,
    /// What the connection has not accepted yet.
    pub(super) queue: WriteQueue,
    pub(super) peer: Option<SocketAddr>,
    /// Shortest time without progress after which a client is stalled.
    pub(super) write_timeout: Duration,
}

/// A response that is not sent.
struct Handled {
    exchange: Exchange,
    response: Response<BoxBody>,
    /// What is left of the request's body.
    body: RequestBody,
    is_head: bool,
}

impl Exchange {
    /// Lets `app` handle the request, and sends the response.
    ///
    /// The first part is boxed and the second is not, because a stream is in the second one for
    /// hours.
    pub(super) fn serve<S, B>(
        self,
        request: http::Request<RecvStream>,
        app: Rc<S>,
    ) -> impl Future<Output = ()>
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<Response<BoxBody>>,
        B: MessageBody + 'static,
    {
        let handled = Box::pin(self.handle(request, app));
        async move {
            if let Some(started) = handled.await.and_then(Handled::send_head) {
                started.send_body().await;
            }
        }
    }

    /// Lets `app` handle the request. Returns `None` if that has ended the exchange.
    async fn handle<S, B>(
        mut self,
        request: http::Request<RecvStream>,
        app: Rc<S>,
    ) -> Option<Handled>
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<Response<BoxBody>>,
        B: MessageBody + 'static,
    {
        let (head, incoming) = request.into_parts();
        let (body, payload) = RequestBody::new(incoming);
        let mut request = match convert_request(&head, payload) {
            Ok(request) => request,
            Err(invalid) => {
                self.reject(invalid.0);
                return None;
            }
        };
        request.head_mut().peer_addr = self.peer;
        request.extensions_mut().insert(self.multiplexed.clone());
        let is_head = request.method() == Method::HEAD;
        let response = self.call(request, &body, &*app).await?;
        self.head = None;
        if self.multiplexed.is_refused() {
            self.respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        Some(Handled {
            exchange: self,
            response,
            body,
            is_head,
        })
    }

    /// Calls `app`. Returns `None` if the client has reset the request meanwhile.
    async fn call<S, B>(
        &mut self,
        request: Request,
        body: &RequestBody,
        app: &S,
    ) -> Option<Response<BoxBody>>
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<Response<BoxBody>>,
        B: MessageBody + 'static,
    {
        let mut expects_continue = expects_continue(&request);
        // Boxed, because the response is sent by the same task, and may take much longer.
        let mut call = Box::pin(app.call(request));
        let response = poll_fn(|cx| {
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            body.read_frames(cx);
            let response = call.as_mut().poll(cx);
            if expects_continue && response.is_pending() && body.is_waited_for() {
                expects_continue = false;
                self.send_continue();
            }
            response.map(Some)
        });
        Some(match response.await? {
            Ok(response) => response.into().map_into_boxed_body(),
            Err(error) => error.into(),
        })
    }

    /// Lets the client send the body.
    fn send_continue(&mut self) {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::CONTINUE;
        // A client that is gone needs no permission.
        let _ = self.respond.send_informational(response);
    }

    /// Rejects a request that is not valid.
    fn reject(&mut self, reason: &str) {
        tracing::debug!(client = ?self.peer, reason, "an HTTP/2 request is not valid");
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        let _ = self.respond.send_response(response, true);
    }
}

/// A response whose head is sent.
struct Started {
    /// `None` if the response has no body.
    body: Option<BodySender>,
    /// What is left of the request's body; `None` if the response does not wait for its end.
    request_body: Option<RequestBody>,
}

impl Handled {
    /// Sends the head of the response. Returns `None` if the client is gone.
    fn send_head(self) -> Option<Started> {
        let Self {
            mut exchange,
            response,
            body: request_body,
            is_head,
        } = self;
        let (response, body) = response.into_parts();
        let size = body.size();
        let is_complete = is_head || size.is_eof();
        let head = convert_head(response.head(), size);
        let sent = exchange.respond.send_response(head, is_complete);
        let stream = sent.ok()?;
        let Exchange {
            multiplexed,
            queue,
            write_timeout,
            ..
        } = exchange;
        let sender = BodySender::new(body, stream, multiplexed, queue, write_timeout);
        Some(Started {
            body: (!is_complete).then_some(sender),
            // A stream does not wait for its client to end a body that is not wanted.
            request_body: (size != BodySize::Stream).then_some(request_body),
        })
    }
}

impl Started {
    async fn send_body(mut self) {
        if let Some(body) = &mut self.body {
            body.send().await;
        }
        if let Some(request_body) = self.request_body {
            // Boxed, because the timer would be in every stream.
            Box::pin(request_body.discard_rest()).await;
        }
    }
}

fn expects_continue(request: &Request) -> bool {
    let expected = request.head().headers.get(header::EXPECT);
    expected.is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
