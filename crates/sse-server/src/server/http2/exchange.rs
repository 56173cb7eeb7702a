//! One request and its response.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, task::Poll, time::Duration};

use actix_http::{HttpMessage as _, Request, Response};
use actix_service::Service;
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    http::{Method, header},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};

use super::{
    request_body::RequestBody, request_head::convert_request, response_body::send_body,
    response_head::convert_head, write_queue::WriteQueue,
};
use crate::fanout::multiplexed::MultiplexedStream;

/// A request that has no response yet.
pub(super) struct Exchange {
    pub(super) respond: SendResponse<Bytes>,
    /// The request as its connection counts it.
    pub(super) multiplexed: MultiplexedStream,
    /// What the connection has not accepted yet.
    pub(super) queue: WriteQueue,
    pub(super) peer: Option<SocketAddr>,
    /// Shortest time without progress after which a client is stalled.
    pub(super) write_timeout: Duration,
}

impl Exchange {
    /// Lets `app` handle the request, and sends the response.
    pub(super) async fn serve<S, B>(mut self, request: http::Request<RecvStream>, app: Rc<S>)
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
            Err(invalid) => return self.reject(invalid.0),
        };
        drop(head);
        request.head_mut().peer_addr = self.peer;
        request.extensions_mut().insert(self.multiplexed.clone());
        let is_head = request.method() == Method::HEAD;
        let response = self.call(request, &body, &*app).await;
        drop(app);
        let Some(response) = response else { return };
        if response.body().size() == BodySize::Stream {
            drop(body);
            self.respond(response, is_head).await;
        } else {
            self.respond(response, is_head).await;
            body.discard_rest().await;
        }
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

    async fn respond(&mut self, response: Response<BoxBody>, is_head: bool) {
        if self.multiplexed.is_refused() {
            return self.respond.send_reset(Reason::REFUSED_STREAM);
        }
        let (response, body) = response.into_parts();
        let size = body.size();
        let head = convert_head(response.head(), size);
        drop(response);
        let is_complete = is_head || size.is_eof();
        let Ok(stream) = self.respond.send_response(head, is_complete) else {
            return;
        };
        if !is_complete {
            let body = pin!(body);
            let (queue, write_timeout) = (self.queue.clone(), self.write_timeout);
            send_body(body, stream, &self.multiplexed, queue, write_timeout).await;
        }
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

fn expects_continue(request: &Request) -> bool {
    let expected = request.head().headers.get(header::EXPECT);
    expected.is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
