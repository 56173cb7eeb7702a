//! Reads the body of a request within limits of size, time, and memory for all bodies together.
//!
//! A body claims its memory in one step, when its first bytes arrive. If bodies claimed memory in
//! pieces, several could each hold a part and wait for one another. An upload that sends nothing
//! claims nothing. After the last byte, what the body did not need is released.
//!
//! ```text
//! --publish-memory 4 KiB   body A: Content-Length 3072   body B: chunked, at most 2048
//!
//! A's first bytes arrive   A 3 KiB                       B waits, up to 5 s
//! A is stored              A 0                           B 2 KiB
//! B's last byte arrives                                  B 1 KiB, the size of its 700 bytes
//! ```

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::http::{
    error::{ApiError, ApiResult},
    limits::Limit,
    permits::acquire_within,
};

/// Time for the whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body waits for memory that other bodies use.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory(Semaphore);

impl BodyMemory {
    /// Memory of this many bytes, rounded up to KiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let kib = usize::try_from(bytes.div_ceil(KIB as u64)).unwrap_or(usize::MAX);
        Self(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
    }

    /// Waits for memory that other bodies use.
    async fn acquire(&self, kib: u32) -> ApiResult<SemaphorePermit<'_>> {
        let permit = acquire_within(MEMORY_TIMEOUT, self.0.acquire_many(kib)).await;
        permit.ok_or(ApiError::BodyMemoryFull)
    }

    /// An empty share.
    const fn share(&self) -> MemoryShare<'_> {
        MemoryShare {
            memory: self,
            permit: None,
        }
    }
}

/// The memory that one body uses, until it is dropped.
struct MemoryShare<'a> {
    memory: &'a BodyMemory,
    permit: Option<SemaphorePermit<'a>>,
}

impl<'a> MemoryShare<'a> {
    /// Waits until the share has at least `bytes`.
    async fn grow_to(&mut self, bytes: usize) -> ApiResult<()> {
        let more = bytes.div_ceil(KIB).saturating_sub(self.kib());
        if more == 0 {
            return Ok(());
        }
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        let acquired = self.memory.acquire(permits).await?;
        self.add(acquired);
        Ok(())
    }

    fn add(&mut self, acquired: SemaphorePermit<'a>) {
        match &mut self.permit {
            Some(permit) => permit.merge(acquired),
            None => self.permit = Some(acquired),
        }
    }

    /// Releases what exceeds `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        let excess = self.kib().saturating_sub(bytes.div_ceil(KIB));
        if let Some(permit) = &mut self.permit {
            drop(permit.split(excess));
        }
    }

    fn kib(&self) -> usize {
        self.permit.as_ref().map_or(0, SemaphorePermit::num_permits)
    }
}

/// A body and its memory, which it holds until it is dropped.
pub(crate) struct Body<'a> {
    pub(crate) bytes: Bytes,
    _share: MemoryShare<'a>,
}

/// Reads the whole body.
///
/// # Errors
///
/// - `TooLarge`: the body exceeds `limit`; checked before reading if the length is declared.
/// - `BodyTimeout`, `IncompleteBody`: the client is too slow, or broke off.
/// - `BodyMemoryFull`: other bodies use the memory. The client can retry.
pub(in crate::http) async fn read<'a>(
    request: &HttpRequest,
    payload: Payload,
    limit: Limit,
    memory: &'a BodyMemory,
) -> ApiResult<Body<'a>> {
    let declared = check_declared_length(request, limit)?;
    let mut share = memory.share();
    let bytes = within_body_timeout(read_chunks(payload, declared, limit, &mut share)).await?;
    share.shrink_to(bytes.len());
    Ok(Body {
        bytes,
        _share: share,
    })
}

/// Returns the declared length of the body, which is not above `limit`.
fn check_declared_length(request: &HttpRequest, limit: Limit) -> ApiResult<Option<usize>> {
    let declared = declared_length(request.headers());
    if let Some(length) = declared {
        limit.check(length)?;
    }
    Ok(declared)
}

async fn within_body_timeout(reading: impl Future<Output = ApiResult<Bytes>>) -> ApiResult<Bytes> {
    timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| ApiError::BodyTimeout(BODY_TIMEOUT.as_secs()))?
}

async fn read_chunks(
    mut payload: Payload,
    declared: Option<usize>,
    limit: Limit,
    share: &mut MemoryShare<'_>,
) -> ApiResult<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::IncompleteBody)?;
        limit.check(bytes.len() + chunk.len())?;
        share.grow_to(declared.unwrap_or(limit.max)).await?;
        if bytes.is_empty() {
            bytes.reserve(declared.unwrap_or(chunk.len()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Returns the length in the head of the request, or `None` if the body is chunked.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}
