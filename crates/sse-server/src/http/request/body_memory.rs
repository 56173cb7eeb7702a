//! Memory for the bodies of all requests, of which each client gets a share.
//!
//! A body claims memory in three steps, as its bytes arrive:
//!
//! | bytes that have arrived | memory |
//! |---|---|
//! | up to 4 KiB | as much, of a pool that only small bodies use |
//! | up to 16 KiB | up to 16 KiB |
//! | more | the declared length, or the largest allowed one |
//!
//! So a client that declares a large body and sends little holds little, and no small body waits
//! behind a large one. A large body claims the rest in one step: bodies that each held a part could
//! wait for one another. Clients that send many large bodies take turns, and wait for themselves:
//!
//! ```text
//! --publish-memory 256 MiB, of which a client gets 64 MiB
//!
//! client A   4 bodies of 16 MiB hold its share; a fifth waits, up to 5 s
//! client B   claims its 1 KiB at once
//! ```

use std::time::Duration;

use crate::{
    budget::{Budget, ClientNet, Share},
    http::error::{ApiError, ApiResult},
    metrics::Metrics,
};

/// How long a body waits for memory that other bodies use.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);
/// A client may use this part of the memory, or one body of the largest size.
const CLIENT_PART: u64 = 4;
/// Small bodies have this part of the memory in addition, at least [`SMALL_POOL_BYTES_MIN`].
const SMALL_PART: u64 = 16;
const SMALL_POOL_BYTES_MIN: usize = 64 << 10;
/// A client may use this part of the pool of small bodies.
const SMALL_CLIENT_PART: usize = 2;
/// Largest small body.
const SMALL_BYTES: usize = 4 << 10;
/// Bytes that must have arrived before a body claims the rest.
const FIRST_PART_BYTES: usize = 16 << 10;
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory {
    /// One permit per KiB, as in the pool of small bodies.
    large: Budget,
    small: Budget,
    metrics: Metrics,
}

impl BodyMemory {
    /// Memory of this many bytes, rounded up to KiB. One body has up to `body_bytes_max`.
    #[must_use]
    pub fn new(bytes: u64, body_bytes_max: usize, metrics: Metrics) -> Self {
        let to_size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let small = to_kib(to_size(bytes / SMALL_PART).max(SMALL_POOL_BYTES_MIN));
        let client = to_kib(to_size(bytes / CLIENT_PART).max(body_bytes_max));
        Self {
            large: Budget::new(to_kib(to_size(bytes)), client),
            small: Budget::new(small, small / SMALL_CLIENT_PART),
            metrics,
        }
    }

    /// Returns an empty share for a body of `client`. A client without an address has no limit of
    /// its own.
    pub(super) const fn share(&self, client: Option<ClientNet>) -> MemoryShare<'_> {
        MemoryShare {
            memory: self,
            client,
            small: None,
            large: None,
        }
    }
}

const fn to_kib(bytes: usize) -> usize {
    bytes.div_ceil(KIB)
}

/// The memory that one body uses, until it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare<'a> {
    memory: &'a BodyMemory,
    client: Option<ClientNet>,
    /// While the body is small.
    small: Option<Share>,
    /// Once the body is large.
    large: Option<Share>,
}

impl MemoryShare<'_> {
    /// Waits for the memory of a body of which `length` bytes have arrived, and which has at most
    /// `length_max`.
    ///
    /// # Errors
    ///
    /// `BodyMemoryFull`: other bodies use the memory, or those of the same client.
    pub(super) async fn grow_to(&mut self, length: usize, length_max: usize) -> ApiResult<()> {
        let memory = self.memory;
        if length <= SMALL_BYTES {
            let small = self
                .small
                .get_or_insert_with(|| memory.small.share(self.client));
            return grow(small, to_kib(length), &memory.metrics).await;
        }
        let end = if length <= FIRST_PART_BYTES {
            length_max.min(FIRST_PART_BYTES)
        } else {
            length_max
        };
        let large = self
            .large
            .get_or_insert_with(|| memory.large.share(self.client));
        grow(large, to_kib(end), &memory.metrics).await?;
        self.release_small();
        Ok(())
    }

    fn release_small(&mut self) {
        if let Some(small) = self.small.take() {
            self.memory
                .metrics
                .body_memory_released(small.permits() * KIB);
        }
    }

    /// Releases what exceeds `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(large) = &mut self.large {
            let before = large.permits();
            large.shrink_to(to_kib(bytes));
            let released = before - large.permits();
            self.memory.metrics.body_memory_released(released * KIB);
        }
    }
}

/// Waits until `share` has `kib`.
async fn grow(share: &mut Share, kib: usize, metrics: &Metrics) -> ApiResult<()> {
    let before = share.permits();
    let more = kib.saturating_sub(before);
    if !share.grow(more, MEMORY_TIMEOUT).await {
        return Err(ApiError::BodyMemoryFull);
    }
    metrics.body_memory_claimed((share.permits() - before) * KIB);
    Ok(())
}

impl Drop for MemoryShare<'_> {
    fn drop(&mut self) {
        self.release_small();
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> ClientNet {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn memory() -> BodyMemory {
        BodyMemory::new(256 << 10, 16 << 10, Metrics::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_uses_its_share_delays_no_other() {
        let memory = memory();
        let mut large = memory.share(Some(client(1)));
        large.grow_to(64 << 10, 64 << 10).await.unwrap();
        let mut same = memory.share(Some(client(1)));
        assert!(matches!(
            same.grow_to(8 << 10, 8 << 10).await,
            Err(ApiError::BodyMemoryFull)
        ));
        let mut small = memory.share(Some(client(1)));
        small.grow_to(SMALL_BYTES, SMALL_BYTES).await.unwrap();
        for other in [Some(client(2)), None] {
            let mut share = memory.share(other);
            share.grow_to(16 << 10, 16 << 10).await.unwrap();
        }
        large.shrink_to(56 << 10);
        same.grow_to(8 << 10, 8 << 10).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_holds_little_until_a_part_of_it_has_arrived() {
        let memory = memory();
        let mut share = memory.share(Some(client(1)));
        for (length, all, small) in [
            (1, 256, 63),
            (4096, 256, 60),
            (4097, 240, 64),
            (16 << 10, 240, 64),
            ((16 << 10) + 1, 192, 64),
        ] {
            share.grow_to(length, 64 << 10).await.unwrap();
            let used = [&memory.large, &memory.small].map(Budget::used);
            assert_eq!(used, [256 - all, 64 - small], "{length}");
        }
        drop(share);
        assert_eq!(memory.large.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_the_largest_size_fits_the_share_of_its_client() {
        let memory = BodyMemory::new(5000, 5000, Metrics::new());
        let mut share = memory.share(Some(client(1)));
        share.grow_to(5000, 5000).await.unwrap();
    }
}
