//! Reports requests and responses to their connection, which limits how long each may take, and
//! handles no request behind the one whose response ends the connection.
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
    http::{ConnectionType, StatusCode, header},
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
        let connection: Option<DetachableSocket> = request.conn_data().cloned();
        let ending = connection.clone().filter(DetachableSocket::is_ending);
        let called = if ending.is_none() {
            let guard = connection.map(|connection| start_request(&connection, &request));
            Some((app.call(request), guard))
        } else {
            None
        };
        async move {
            if let Some(connection) = ending {
                connection.close_when_written().await;
            }
            match called {
                Some((response, guard)) => Ok(track_response(response.await?.into(), guard)),
                None => Ok(unsent_response()),
            }
        }
    })
}

fn start_request(connection: &DetachableSocket, request: &Request) -> RequestGuard {
    let head = request.head();
    let has_body = head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING);
    let guard = connection.start_request(has_body);
    if head.connection_type() == ConnectionType::Close {
        guard.set_last();
    }
    guard
}

/// `guard` is `None` if the transport does not track requests.
fn track_response<B: MessageBody + 'static>(
    mut response: Response<B>,
    guard: Option<RequestGuard>,
) -> Response<TrackedBody> {
    if let Some(guard) = &guard {
        let head = response.head_mut();
        if guard.start_response() || guard.is_last() {
            // actix would take the connection type of a request behind this one.
            head.set_connection_type(ConnectionType::Close);
        }
        if head.connection_type() == ConnectionType::Close {
            guard.set_last();
        }
    }
    response.map_body(|_, body| TrackedBody {
        body: body.boxed(),
        _guard: guard,
    })
}

/// A response on a closed connection. The write fails, so actix lets go of the connection.
fn unsent_response() -> Response<TrackedBody> {
    Response::with_body(
        StatusCode::SERVICE_UNAVAILABLE,
        TrackedBody {
            body: BoxBody::new(()),
            _guard: None,
        },
    )
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
