//! Reads a request's body: bounded in bytes, in time, and in the memory of all bodies together.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest, http::header, web::Payload};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::error::ApiError;

const WITHIN: Duration = Duration::from_secs(30);
/// How long a body waits for memory that others hold.
const MEMORY_WITHIN: Duration = Duration::from_secs(5);
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory(Semaphore);

impl BodyMemory {
    /// At most this many bytes at once.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let kib = usize::try_from(bytes / KIB as u64).unwrap_or(usize::MAX);
        Self(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
    }

    async fn reserve(&self, bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(KIB).max(1)).unwrap_or(u32::MAX);
        match timeout(MEMORY_WITHIN, self.0.acquire_many(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::Busy),
        }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit {
    pub(super) bytes_max: usize,
    /// `the event` or `the batch`.
    pub(super) what: &'static str,
    pub(super) flag: &'static str,
}

/// A body and its share of the memory, which it holds until it is dropped.
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    _memory: SemaphorePermit<'a>,
}

/// Reads the whole body.
pub(super) async fn read<'a>(
    request: &HttpRequest,
    mut payload: Payload,
    limit: BodyLimit,
    memory: &'a BodyMemory,
) -> Result<Body<'a>, ApiError> {
    let too_large =
        || ApiError::TooLarge { what: limit.what.to_owned(), max: limit.bytes_max, unit: "bytes", flag: limit.flag };
    let declared = declared_length(request);
    if declared.is_some_and(|declared| declared > limit.bytes_max) {
        return Err(too_large());
    }
    let permit = memory.reserve(declared.unwrap_or(limit.bytes_max)).await?;
    let reading = async {
        let mut bytes = BytesMut::with_capacity(declared.unwrap_or(0));
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|error| ApiError::BodyBroken(error.to_string()))?;
            if bytes.len() + piece.len() > limit.bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    };
    let bytes = timeout(WITHIN, reading).await.map_err(|_| ApiError::BodyTimeout(WITHIN.as_secs()))??;
    Ok(Body { bytes, _memory: permit })
}

/// The body's length as its head says it: nothing without a body, unknown if it is chunked.
fn declared_length(request: &HttpRequest) -> Option<usize> {
    if request.chunked().unwrap_or(false) {
        return None;
    }
    match request.headers().get(header::CONTENT_LENGTH) {
        None => Some(0),
        Some(length) => length.to_str().ok()?.trim().parse().ok(),
    }
}
