//! Reads a request's body: bounded in bytes, in time, and in the memory of all bodies together.

use std::time::Duration;

use actix_web::{HttpRequest, http::header, web::Payload};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::http::error::ApiError;

const WITHIN: Duration = Duration::from_secs(30);
/// How long a body waits for memory that others hold.
const MEMORY_WITHIN: Duration = Duration::from_secs(5);
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory(Semaphore);

impl BodyMemory {
    /// At most this many bytes at once, by the KiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let kib = usize::try_from(bytes.div_ceil(KIB as u64)).unwrap_or(usize::MAX);
        Self(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
    }

    /// Room for what a body has so far. A body that has sent nothing holds nothing.
    const fn share(&self) -> Share<'_> {
        Share {
            memory: self,
            held: None,
            kib: 0,
        }
    }
}

/// What one body holds of the memory, until it is dropped.
struct Share<'a> {
    memory: &'a BodyMemory,
    held: Option<SemaphorePermit<'a>>,
    kib: usize,
}

impl Share<'_> {
    /// Waits until there is room for `bytes` in all.
    async fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.div_ceil(KIB).saturating_sub(self.kib);
        if more == 0 {
            return Ok(());
        }
        let wanted = self
            .memory
            .0
            .acquire_many(u32::try_from(more).unwrap_or(u32::MAX));
        let Ok(Ok(permit)) = timeout(MEMORY_WITHIN, wanted).await else {
            return Err(ApiError::Busy);
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.kib += more;
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        let excess = self.kib.saturating_sub(bytes.div_ceil(KIB));
        if let Some(held) = &mut self.held {
            drop(held.split(excess));
            self.kib -= excess;
        }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit {
    pub(crate) bytes_max: usize,
    /// `the event` or `the batch`.
    pub(crate) what: &'static str,
    pub(crate) flag: &'static str,
}

/// A body and its share of the memory, which it holds until it is dropped.
pub(crate) struct Body<'a> {
    pub(crate) bytes: Bytes,
    _memory: Share<'a>,
}

/// Reads the whole body.
pub(crate) async fn read<'a>(
    request: &HttpRequest,
    mut payload: Payload,
    limit: BodyLimit,
    memory: &'a BodyMemory,
) -> Result<Body<'a>, ApiError> {
    let too_large = || ApiError::TooLarge {
        what: limit.what.to_owned(),
        max: limit.bytes_max,
        unit: "bytes",
        flag: limit.flag,
    };
    let declared = declared_length(request);
    if declared.is_some_and(|declared| declared > limit.bytes_max) {
        return Err(too_large());
    }
    let mut share = memory.share();
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|_| ApiError::IncompleteBody)?;
            let length = bytes.len() + piece.len();
            if length > limit.bytes_max {
                return Err(too_large());
            }
            // All at once, because bodies that each hold a part would wait for one another; and only now that something
            // has come, so that an upload which sends nothing holds nothing.
            share.grow_to(declared.unwrap_or(limit.bytes_max)).await?;
            if bytes.is_empty() {
                bytes.reserve(declared.unwrap_or(piece.len()));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    };
    let bytes = timeout(WITHIN, reading)
        .await
        .map_err(|_| ApiError::BodyTimeout(WITHIN.as_secs()))??;
    share.shrink_to(bytes.len());
    Ok(Body {
        bytes,
        _memory: share,
    })
}

/// The body's length as its head says it; none if it is chunked.
fn declared_length(request: &HttpRequest) -> Option<usize> {
    request
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}
