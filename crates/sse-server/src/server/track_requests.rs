//! Reports requests and responses to their connection, which limits how long each may take.
//!
//! This is a service around the app, and not a middleware of it, because it must see when actix has
//! taken the last byte of a body.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_http::{Request, Response};
use actix_service::{Service as _, ServiceFactory, apply_fn_factory};
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    http::{ConnectionType, header},
};
use bytes::Bytes;

use crate::fanout::detach::{DetachableSocket, RequestGuard};

/// Tracks the requests that `app` handles.
pub(super) fn track_requests<F, B>(
    app: F,
) -> impl ServiceFactory<
    Request,
    Config = F::Config,
    Response = Response<TrackedBody>,
    Error = F::Error,
    InitError = F::InitError,
>
where
    F: ServiceFactory<Request, Response = ServiceResponse<B>>,
    B: MessageBody + 'static,
{
    apply_fn_factory(app, |request: Request, app| {
        let guard = start_request(&request);
        let response = app.call(request);
        async move { Ok(track_response(response.await?.into(), guard)) }
    })
}

/// Returns `None` if the transport does not track requests.
fn start_request(request: &Request) -> Option<RequestGuard> {
    let headers = &request.head().headers;
    let has_body = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING);
    let connection: &DetachableSocket = request.conn_data()?;
    Some(connection.start_request(has_body))
}

fn track_response<B: MessageBody + 'static>(
    mut response: Response<B>,
    guard: Option<RequestGuard>,
) -> Response<TrackedBody> {
    if guard.as_ref().is_some_and(RequestGuard::start_response) {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response.map_body(|_, body| TrackedBody {
        body: body.boxed(),
        _guard: guard,
    })
}

/// The body of a response, whose request is in progress until actix drops the body.
pub(super) struct TrackedBody {
    body: BoxBody,
    _guard: Option<RequestGuard>,
}

impl MessageBody for TrackedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
