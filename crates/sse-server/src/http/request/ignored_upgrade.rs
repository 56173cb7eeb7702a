//! Requests that ask for another protocol, which this server does not offer.
//!
//! A server may ignore the field `Upgrade` (RFC 9110, section 7.8) and answers as if it were
//! absent. actix-http prepares for an upgrade instead: with `Upgrade: websocket` it takes every
//! byte that follows the request for its body, and sends a response without the chunks that the
//! head declares. [`ignore_upgrade`] restores the framing:
//!
//! ```text
//! request   body      Content-Length bytes, or chunks, or none; the bytes after it are not read
//! response  body      Content-Length bytes, or delimited by the close
//!           head      Connection: close
//! ```

use actix_http::{BoxedPayloadStream, Payload};
use actix_web::{
    Error, HttpMessage as _, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::{
        ConnectionType, Method, Version,
        header::{self, HeaderName},
    },
    middleware::Next,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::http::error::{ApiError, shortened};

/// Methods of all routes, for a client that asks for a tunnel.
const METHODS: &str = "GET, HEAD, POST";

/// Marks a request whose response cannot have chunks.
struct WithoutChunks;

/// Whether a response of unknown length has chunks. Otherwise the close of the connection ends it.
pub(crate) fn has_chunks(request: &HttpRequest) -> bool {
    request.version() >= Version::HTTP_11 && !request.extensions().contains::<WithoutChunks>()
}

/// Middleware: handles a request that asks for an upgrade as if it did not, and rejects `CONNECT`.
///
/// # Errors
///
/// - `ApiError::MethodNotAllowed`: the method is `CONNECT`.
/// - Those of the services inside.
pub async fn ignore_upgrade<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let head = request.head();
    let asks = asks_for_websocket(head) || head.upgrade() || head.method == Method::CONNECT;
    let is_endless = is_body_endless(head);
    if is_endless {
        let length = content_length(head);
        let payload = request.take_payload();
        request.set_payload(first_bytes(payload, length));
        request.extensions_mut().insert(WithoutChunks);
    }
    let mut response = if request.method() == Method::CONNECT {
        let error = ApiError::MethodNotAllowed {
            method: shortened(request.method()),
            allow: METHODS,
        };
        request.error_response(error).map_into_right_body()
    } else {
        next.call(request).await?.map_into_left_body()
    };
    if asks {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
        if is_endless {
            head.no_chunking(true);
        }
    }
    Ok(response)
}

/// Whether actix takes everything after the head for the body.
fn is_body_endless(head: &RequestHead) -> bool {
    let is_chunked =
        head.version >= Version::HTTP_11 && has_value(head, &header::TRANSFER_ENCODING, "chunked");
    let is_tunnel = head.method == Method::CONNECT && content_length(head) == 0;
    (asks_for_websocket(head) || is_tunnel) && !is_chunked
}

fn asks_for_websocket(head: &RequestHead) -> bool {
    has_value(head, &header::UPGRADE, "websocket")
}

fn has_value(head: &RequestHead, name: &HeaderName, wanted: &str) -> bool {
    let mut values = head.headers.get_all(name);
    values.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.trim().eq_ignore_ascii_case(wanted)
    })
}

/// The declared length of the body. actix has rejected a request with several or a malformed one.
fn content_length(head: &RequestHead) -> usize {
    let value = head.headers.get(header::CONTENT_LENGTH);
    let length = value.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    length.unwrap_or(0)
}

/// The first `length` bytes of a payload.
fn first_bytes(payload: Payload, length: usize) -> Payload {
    if length == 0 {
        return Payload::None;
    }
    let chunks: BoxedPayloadStream = Box::pin(stream::unfold((payload, length), next_chunk));
    Payload::from(chunks)
}

/// A part of a payload, and what is left of it.
type Chunk = (Result<Bytes, PayloadError>, (Payload, usize));

/// Returns the next chunk of which `left` bytes belong to the body.
async fn next_chunk((mut payload, left): (Payload, usize)) -> Option<Chunk> {
    if left == 0 {
        return None;
    }
    Some(match payload.next().await {
        Some(Ok(mut chunk)) => {
            chunk.truncate(left);
            let left = left - chunk.len();
            (Ok(chunk), (payload, left))
        }
        Some(Err(error)) => (Err(error), (Payload::None, 0)),
        None => (Err(PayloadError::Incomplete(None)), (Payload::None, 0)),
    })
}
