//! Limits of `GET /events`, `GET /channels` and the lists of `/admin`: responses that are prepared at a
//! time, and the memory of all responses.
//!
//! A response is complete before its first byte is sent, because its head states whether there is
//! more. So a slow client decides how long its memory is used: the memory counts until the last
//! byte is sent, or until the connection is closed as stalled.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::{
    budget::{Budget, ClientNet, Share},
    http::error::{ApiError, ApiResult},
    metrics::Metrics,
};

/// Responses that are read from the log and written as JSON at a time.
const READS_MAX: usize = 4;
/// Memory of all responses that clients are still reading.
const MEMORY_KIB: usize = 64 << 10;
/// A client may prepare this many at a time.
const CLIENT_READS_MAX: usize = 2;
/// A client may use this part of the memory.
const CLIENT_PART: usize = 4;
/// How long a request waits for each limit.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes per piece for actix, which copies each piece.
const PIECE_BYTES: usize = 32 << 10;

/// The limits, shared by all requests.
#[derive(Debug, Clone)]
pub struct HistoryBudget {
    reads: Budget,
    memory_kib: Budget,
    metrics: Metrics,
}

impl HistoryBudget {
    /// Memory of all responses that clients are still reading.
    pub(in crate::http) const BYTES_MAX: u64 = (MEMORY_KIB as u64) << 10;

    /// Creates a budget that nothing uses.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            reads: Budget::new(READS_MAX, CLIENT_READS_MAX),
            memory_kib: Budget::new(MEMORY_KIB, MEMORY_KIB / CLIENT_PART),
        }
    }

    /// Waits until one more response of `client` may be prepared.
    pub(in crate::http) async fn acquire(&self, client: Option<ClientNet>) -> ApiResult<Permit> {
        let read = acquire(&self.reads, client, 1).await?;
        Ok(Permit {
            memory_kib: self.memory_kib.clone(),
            metrics: self.metrics.clone(),
            client,
            _read: read,
        })
    }
}

/// The right to prepare one response.
pub(in crate::http) struct Permit {
    memory_kib: Budget,
    metrics: Metrics,
    client: Option<ClientNet>,
    _read: Share,
}

impl Permit {
    /// Waits for memory and returns the response as a body.
    pub(in crate::http) async fn body(self, response: Vec<u8>) -> ApiResult<HistoryBody> {
        // A vector that grew may have twice the capacity that it needs.
        let rest = Bytes::from(response.into_boxed_slice());
        // A single response may exceed the part of its client, if --event-bytes-max is that large.
        let kib = rest.len().div_ceil(1024);
        let memory = acquire(&self.memory_kib, self.client, kib).await?;
        Ok(HistoryBody {
            memory: UsedMemory::new(rest.len(), memory, self.metrics),
            rest,
        })
    }
}

async fn acquire(budget: &Budget, client: Option<ClientNet>, permits: usize) -> ApiResult<Share> {
    let share = budget.acquire(client, permits, WAIT_MAX).await;
    share.ok_or(ApiError::HistoryMemoryFull)
}

/// The memory of one response, which the metrics count until it is dropped.
#[derive(Debug)]
struct UsedMemory {
    bytes: usize,
    _share: Share,
    metrics: Metrics,
}

impl UsedMemory {
    fn new(bytes: usize, share: Share, metrics: Metrics) -> Self {
        metrics.history_memory_claimed(bytes);
        Self {
            bytes,
            _share: share,
            metrics,
        }
    }
}

impl Drop for UsedMemory {
    fn drop(&mut self) {
        self.metrics.history_memory_released(self.bytes);
    }
}

/// The rest of a response, and its memory.
#[derive(Debug)]
pub(in crate::http) struct HistoryBody {
    rest: Bytes,
    #[expect(dead_code, reason = "released when it is dropped")]
    memory: UsedMemory,
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
