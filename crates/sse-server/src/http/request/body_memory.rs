//! Memory for the bodies of all requests, of which each client gets a share.
//!
//! A body claims memory in three steps, as its bytes arrive:
//!
//! | bytes that have arrived | memory | counted for the client |
//! |---|---|---|
//! | up to 4 KiB | as much, of a pool that only small bodies use | no |
//! | up to 16 KiB | up to 16 KiB | yes |
//! | more | the declared length, or the largest allowed one | yes |
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

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::{
    http::{
        access::client_net::ClientNet,
        error::{ApiError, ApiResult},
        permits::acquire_within,
    },
    metrics::Metrics,
};

/// How long a body waits for memory that other bodies use.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);
/// A client may use this part of the memory, or one body of the largest size.
const CLIENT_PART: u64 = 4;
/// Small bodies have this part of the memory in addition, at least [`SMALL_POOL_BYTES_MIN`].
const SMALL_PART: u64 = 16;
const SMALL_POOL_BYTES_MIN: usize = 64 << 10;
/// Largest small body.
const SMALL_BYTES: usize = 4 << 10;
/// Bytes that must have arrived before a body claims the rest.
const FIRST_PART_BYTES: usize = 16 << 10;
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory {
    all: Semaphore,
    /// The pool of small bodies.
    small: Semaphore,
    /// KiB that the bodies of one client may use.
    client_kib: usize,
    clients: Mutex<HashMap<ClientNet, Weak<Semaphore>>>,
    metrics: Metrics,
}

impl BodyMemory {
    /// Memory of this many bytes, rounded up to KiB. One body has up to `body_bytes_max`.
    #[must_use]
    pub fn new(bytes: u64, body_bytes_max: usize, metrics: Metrics) -> Self {
        let to_size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let small = to_size(bytes / SMALL_PART).max(SMALL_POOL_BYTES_MIN);
        let client = to_size(bytes / CLIENT_PART).max(body_bytes_max);
        Self {
            all: Semaphore::new(permits(to_size(bytes))),
            small: Semaphore::new(permits(small)),
            client_kib: permits(client),
            clients: Mutex::default(),
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
            of_client: None,
            permit: None,
        }
    }

    /// Returns the semaphore that all bodies of a client share.
    fn client_semaphore(&self, net: ClientNet) -> Arc<Semaphore> {
        let mut clients = self.lock_clients();
        if let Some(semaphore) = clients.get(&net).and_then(Weak::upgrade) {
            return semaphore;
        }
        let semaphore = Arc::new(Semaphore::new(self.client_kib));
        clients.insert(net, Arc::downgrade(&semaphore));
        semaphore
    }

    /// Forgets a client without bodies.
    fn forget_unused(&self, net: ClientNet) {
        let mut clients = self.lock_clients();
        if clients
            .get(&net)
            .is_some_and(|client| client.strong_count() == 0)
        {
            clients.remove(&net);
        }
    }

    fn lock_clients(&self) -> MutexGuard<'_, HashMap<ClientNet, Weak<Semaphore>>> {
        // No code panics while it holds this lock.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the permits for `bytes`, one per KiB.
fn permits(bytes: usize) -> usize {
    bytes.div_ceil(KIB).min(Semaphore::MAX_PERMITS)
}

fn permit_count(permits: usize) -> u32 {
    u32::try_from(permits).unwrap_or(u32::MAX)
}

/// The memory that one body uses, until it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare<'a> {
    memory: &'a BodyMemory,
    client: Option<ClientNet>,
    /// Of the pool of small bodies.
    small: Option<SemaphorePermit<'a>>,
    /// `None` while the body is small.
    of_client: Option<ClientShare>,
    /// `None` while the body is small.
    permit: Option<SemaphorePermit<'a>>,
}

/// What the body uses of the share of its client.
#[derive(Debug)]
struct ClientShare {
    net: ClientNet,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ClientShare {
    async fn add(&mut self, kib: usize) -> ApiResult<()> {
        let acquiring = self.semaphore.clone();
        let acquiring = acquiring.acquire_many_owned(permit_count(kib));
        let acquired = acquire_within(MEMORY_TIMEOUT, acquiring).await;
        let acquired = acquired.ok_or(ApiError::BodyMemoryFull)?;
        match &mut self.permit {
            Some(permit) => permit.merge(acquired),
            None => self.permit = Some(acquired),
        }
        Ok(())
    }
}

impl MemoryShare<'_> {
    /// Waits for the memory of a body of which `length` bytes have arrived, and which has at most
    /// `length_max`.
    ///
    /// # Errors
    ///
    /// `BodyMemoryFull`: other bodies use the memory, or those of the same client.
    pub(super) async fn grow_to(&mut self, length: usize, length_max: usize) -> ApiResult<()> {
        if length <= SMALL_BYTES {
            return self.grow_small(permits(length)).await;
        }
        let end = if length <= FIRST_PART_BYTES {
            length_max.min(FIRST_PART_BYTES)
        } else {
            length_max
        };
        let more = permits(end).saturating_sub(count(self.permit.as_ref()));
        if more == 0 {
            return Ok(());
        }
        if self.of_client.is_none() {
            self.of_client = self.client.map(|net| ClientShare {
                net,
                semaphore: self.memory.client_semaphore(net),
                permit: None,
            });
        }
        if let Some(client) = &mut self.of_client {
            client.add(more).await?;
        }
        add(&self.memory.all, &mut self.permit, more).await?;
        self.memory.metrics.body_memory_claimed(more * KIB);
        self.release_small();
        Ok(())
    }

    async fn grow_small(&mut self, kib: usize) -> ApiResult<()> {
        let more = kib.saturating_sub(count(self.small.as_ref()));
        if more > 0 {
            add(&self.memory.small, &mut self.small, more).await?;
            self.memory.metrics.body_memory_claimed(more * KIB);
        }
        Ok(())
    }

    fn release_small(&mut self) {
        let released = count(self.small.take().as_ref());
        self.memory.metrics.body_memory_released(released * KIB);
    }

    /// Releases what exceeds `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let excess = count(self.permit.as_ref()).saturating_sub(permits(bytes));
        if let Some(permit) = &mut self.permit {
            drop(permit.split(excess));
        }
        let of_client = self.of_client.as_mut();
        if let Some(permit) = of_client.and_then(|client| client.permit.as_mut()) {
            drop(permit.split(excess));
        }
        self.memory.metrics.body_memory_released(excess * KIB);
    }
}

fn count(permit: Option<&SemaphorePermit<'_>>) -> usize {
    permit.map_or(0, SemaphorePermit::num_permits)
}

/// Waits for `more` permits, and adds them to `permit`.
async fn add<'a>(
    semaphore: &'a Semaphore,
    permit: &mut Option<SemaphorePermit<'a>>,
    more: usize,
) -> ApiResult<()> {
    let acquiring = semaphore.acquire_many(permit_count(more));
    let acquired = acquire_within(MEMORY_TIMEOUT, acquiring).await;
    let acquired = acquired.ok_or(ApiError::BodyMemoryFull)?;
    match permit {
        Some(permit) => permit.merge(acquired),
        None => *permit = Some(acquired),
    }
    Ok(())
}

impl Drop for MemoryShare<'_> {
    fn drop(&mut self) {
        self.release_small();
        let released = count(self.permit.as_ref());
        self.memory.metrics.body_memory_released(released * KIB);
        if let Some(ClientShare {
            net,
            semaphore,
            permit,
        }) = self.of_client.take()
        {
            drop((permit, semaphore));
            self.memory.forget_unused(net);
        }
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
            let available = [&memory.all, &memory.small].map(Semaphore::available_permits);
            assert_eq!(available, [all, small], "{length}");
        }
        drop(share);
        assert_eq!(memory.all.available_permits(), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_the_largest_size_fits_the_share_of_its_client() {
        let memory = BodyMemory::new(5000, 5000, Metrics::new());
        let mut share = memory.share(Some(client(1)));
        share.grow_to(5000, 5000).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_bodies_is_forgotten() {
        let memory = memory();
        let mut share = memory.share(Some(client(1)));
        share.grow_to(8 << 10, 8 << 10).await.unwrap();
        let mut second = memory.share(Some(client(1)));
        second.grow_to(8 << 10, 8 << 10).await.unwrap();
        drop(share);
        assert_eq!(memory.lock_clients().len(), 1);
        drop(second);
        assert!(memory.lock_clients().is_empty());
    }
}
