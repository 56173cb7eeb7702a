//! Answers of `GET /events`: how many are made at a time, and the memory of those that clients are still reading.
//!
//! An answer is whole before its first byte, because its head says whether there is more. So its memory goes by its
//! reader, who may be slow: it is counted until the last byte is taken, or the connection is given up as stalled.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::http::error::ApiError;

/// How many are read from the log, and written as JSON, at a time.
const READS_MAX: usize = 4;
/// What all answers that are being read may have.
const MEMORY_KIB: u32 = 64 << 10;
/// How long a request waits, for each of the two.
const WITHIN: Duration = Duration::from_secs(5);
/// What actix is given at a time, which it copies.
const PIECE_BYTES: usize = 32 << 10;

/// Room for answers, shared by all requests.
#[derive(Debug, Clone)]
pub struct HistoryBudget {
    making: Arc<Semaphore>,
    memory_kib: Arc<Semaphore>,
}

impl Default for HistoryBudget {
    fn default() -> Self {
        let memory_kib = Semaphore::new(MEMORY_KIB as usize);
        Self {
            making: Arc::new(Semaphore::new(READS_MAX)),
            memory_kib: Arc::new(memory_kib),
        }
    }
}

impl HistoryBudget {
    /// Waits until one more may be made.
    pub(super) async fn acquire(&self) -> Result<Permit, ApiError> {
        let making = wait_for(&self.making, 1).await?;
        Ok(Permit {
            memory_kib: self.memory_kib.clone(),
            _making: making,
        })
    }
}

/// The right to make one answer.
pub(super) struct Permit {
    memory_kib: Arc<Semaphore>,
    _making: OwnedSemaphorePermit,
}

impl Permit {
    /// The answer as a body, once there is room for it.
    pub(super) async fn body(self, answer: Vec<u8>) -> Result<HistoryBody, ApiError> {
        // A vector that grew may have twice the room that it needs.
        let rest = Bytes::from(answer.into_boxed_slice());
        let kib = u32::try_from(rest.len().div_ceil(1024)).unwrap_or(u32::MAX);
        // A single one may be larger than all should be together, where events may be so large.
        let memory = wait_for(&self.memory_kib, kib.min(MEMORY_KIB)).await?;
        Ok(HistoryBody {
            rest,
            _memory: memory,
        })
    }
}

async fn wait_for(room: &Arc<Semaphore>, wanted: u32) -> Result<OwnedSemaphorePermit, ApiError> {
    match timeout(WITHIN, room.clone().acquire_many_owned(wanted)).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(ApiError::TooManyAnswers),
    }
}

/// What is left of an answer, and its memory.
#[derive(Debug)]
pub(super) struct HistoryBody {
    rest: Bytes,
    _memory: OwnedSemaphorePermit,
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
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready((length > 0).then(|| Ok(self.rest.split_to(length))))
    }
}
