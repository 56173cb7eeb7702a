//! Limits of `GET /events`: responses that are prepared at a time, and the memory of all responses.
//!
//! A response is complete before its first byte is sent, because its head states whether there is
//! more. So a slow client decides how long its memory is used: the memory counts until the last
//! byte is sent, or until the connection is closed as stalled.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{
    error::{ApiError, ApiResult},
    permits::acquire_within,
};

/// Responses that are read from the log and written as JSON at a time.
const READS_MAX: usize = 4;
/// Memory of all responses that clients are still reading.
const MEMORY_KIB: u32 = 64 << 10;
/// How long a request waits for each of the two limits.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes per piece for actix, which copies each piece.
const PIECE_BYTES: usize = 32 << 10;

/// The limits, shared by all requests.
#[derive(Debug, Clone)]
pub struct HistoryBudget {
    reads: Arc<Semaphore>,
    memory_kib: Arc<Semaphore>,
}

impl Default for HistoryBudget {
    fn default() -> Self {
        let memory_kib = Semaphore::new(MEMORY_KIB as usize);
        Self {
            reads: Arc::new(Semaphore::new(READS_MAX)),
            memory_kib: Arc::new(memory_kib),
        }
    }
}

impl HistoryBudget {
    /// Waits until one more response may be prepared.
    pub(super) async fn acquire(&self) -> ApiResult<Permit> {
        let read = acquire(&self.reads, 1).await?;
        Ok(Permit {
            memory_kib: self.memory_kib.clone(),
            _read: read,
        })
    }
}

/// The right to prepare one response.
pub(super) struct Permit {
    memory_kib: Arc<Semaphore>,
    _read: OwnedSemaphorePermit,
}

impl Permit {
    /// Waits for memory and returns the response as a body.
    pub(super) async fn body(self, response: Vec<u8>) -> ApiResult<HistoryBody> {
        // A vector that grew may have twice the capacity that it needs.
        let rest = Bytes::from(response.into_boxed_slice());
        let memory = self.reserve_memory(&rest).await?;
        Ok(HistoryBody {
            rest,
            _memory: memory,
        })
    }

    async fn reserve_memory(&self, response: &[u8]) -> ApiResult<OwnedSemaphorePermit> {
        // A single response may exceed the memory of all, if --event-bytes-max is that large.
        let kib = size_kib(response).min(MEMORY_KIB);
        acquire(&self.memory_kib, kib).await
    }
}

fn size_kib(response: &[u8]) -> u32 {
    u32::try_from(response.len().div_ceil(1024)).unwrap_or(u32::MAX)
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> ApiResult<OwnedSemaphorePermit> {
    let acquiring = semaphore.clone().acquire_many_owned(permits);
    let permit = acquire_within(WAIT_MAX, acquiring).await;
    permit.ok_or(ApiError::HistoryMemoryFull)
}

/// The rest of a response, and its memory.
#[derive(Debug)]
pub(super) struct HistoryBody {
    rest: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl HistoryBody {
    fn next_piece(&mut self) -> Option<Bytes> {
        let length = self.rest.len().min(PIECE_BYTES);
        (length > 0).then(|| self.rest.split_to(length))
    }
}

impl MessageBody for HistoryBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.next_piece().map(Ok))
    }
}
