//! Memory for the bodies of all requests, of which each client gets a share.
//!
//! A body claims memory in small steps, as its bytes arrive. So a client that declares a large body
//! and sends little holds little, and no small request waits behind a large one. A step is claimed
//! twice: first from the share of the client, then from the memory of all clients. A client that
//! sends many large bodies therefore waits for itself:
//!
//! ```text
//! --publish-memory 256 MiB, of which a client gets 64 MiB
//!
//! client A   4 bodies of 16 MiB hold its share; a fifth waits, up to 5 s for each step
//! client B   claims its 1 KiB at once
//! ```
//!
//! A small body is not counted for its client, because most publishes are small and the limit of
//! connections bounds them. Bodies that wait hold what they have claimed. They cannot wait for one
//! another for ever, because a wait ends after five seconds.

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
/// A body of at most this size is not counted for its client.
pub(super) const SMALL_BYTES: usize = 4 << 10;
const KIB: usize = 1024;

/// Memory for bodies, shared by all requests.
#[derive(Debug)]
pub struct BodyMemory {
    all: Semaphore,
    /// KiB that the bodies of one client may use.
    client_kib: usize,
    clients: Mutex<HashMap<ClientNet, Weak<Semaphore>>>,
    metrics: Metrics,
}

impl BodyMemory {
    /// Memory of this many bytes, rounded up to KiB. One body has up to `body_bytes_max`.
    #[must_use]
    pub fn new(bytes: u64, body_bytes_max: usize, metrics: Metrics) -> Self {
        let part = usize::try_from(bytes / CLIENT_PART).unwrap_or(usize::MAX);
        let all = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            all: Semaphore::new(permits(all)),
            client_kib: permits(part.max(body_bytes_max)),
            clients: Mutex::default(),
            metrics,
        }
    }

    /// Returns an empty share for a body of `client`. A client without an address has no limit of
    /// its own.
    pub(super) fn share(&self, client: Option<ClientNet>) -> MemoryShare<'_> {
        MemoryShare {
            memory: self,
            client,
            of_client: None,
            permit: None,
        }
    }

    fn client_share(&self, net: ClientNet) -> ClientShare {
        ClientShare {
            net,
            semaphore: self.client_semaphore(net),
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

/// The memory that one body uses, until it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare<'a> {
    memory: &'a BodyMemory,
    client: Option<ClientNet>,
    /// `None` while the body is small.
    of_client: Option<ClientShare>,
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
    /// Waits until the body has `kib` of the share of its client.
    async fn grow_to(&mut self, kib: usize) -> ApiResult<()> {
        let more = permit_count(kib.saturating_sub(self.kib()));
        let acquiring = self.semaphore.clone().acquire_many_owned(more);
        let acquired = acquire_within(MEMORY_TIMEOUT, acquiring).await;
        let acquired = acquired.ok_or(ApiError::BodyMemoryFull)?;
        match &mut self.permit {
            Some(permit) => permit.merge(acquired),
            None => self.permit = Some(acquired),
        }
        Ok(())
    }

    fn shrink_to(&mut self, kib: usize) {
        let excess = self.kib().saturating_sub(kib);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(excess));
        }
    }

    fn kib(&self) -> usize {
        let permit = self.permit.as_ref();
        permit.map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

fn permit_count(permits: usize) -> u32 {
    u32::try_from(permits).unwrap_or(u32::MAX)
}

impl MemoryShare<'_> {
    /// Waits until the share has at least `bytes`.
    ///
    /// # Errors
    ///
    /// `BodyMemoryFull`: other bodies use the memory, or those of the same client.
    pub(super) async fn grow_to(&mut self, bytes: usize) -> ApiResult<()> {
        let more = permits(bytes).saturating_sub(self.kib());
        if more == 0 {
            return Ok(());
        }
        if bytes > SMALL_BYTES && self.of_client.is_none() {
            self.of_client = self.client.map(|net| self.memory.client_share(net));
        }
        if let Some(client) = &mut self.of_client {
            client.grow_to(permits(bytes)).await?;
        }
        let acquiring = self.memory.all.acquire_many(permit_count(more));
        let acquired = acquire_within(MEMORY_TIMEOUT, acquiring).await;
        let acquired = acquired.ok_or(ApiError::BodyMemoryFull)?;
        match &mut self.permit {
            Some(permit) => permit.merge(acquired),
            None => self.permit = Some(acquired),
        }
        self.memory.metrics.body_memory_claimed(more * KIB);
        Ok(())
    }

    /// Releases what exceeds `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.kib().saturating_sub(permits(bytes));
        if let Some(permit) = &mut self.permit {
            drop(permit.split(excess));
            self.memory.metrics.body_memory_released(excess * KIB);
        }
        if let Some(client) = &mut self.of_client {
            client.shrink_to(permits(bytes));
        }
    }

    fn kib(&self) -> usize {
        self.permit.as_ref().map_or(0, SemaphorePermit::num_permits)
    }
}

impl Drop for MemoryShare<'_> {
    fn drop(&mut self) {
        self.memory.metrics.body_memory_released(self.kib() * KIB);
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
        large.grow_to(64 << 10).await.unwrap();
        let mut same = memory.share(Some(client(1)));
        assert!(matches!(
            same.grow_to(8 << 10).await,
            Err(ApiError::BodyMemoryFull)
        ));
        memory
            .share(Some(client(1)))
            .grow_to(SMALL_BYTES)
            .await
            .unwrap();
        for other in [Some(client(2)), None] {
            memory.share(other).grow_to(16 << 10).await.unwrap();
        }
        large.shrink_to(56 << 10);
        same.grow_to(8 << 10).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_the_largest_size_fits_the_share_of_its_client() {
        let memory = BodyMemory::new(1500, 1500, Metrics::new());
        memory.share(Some(client(1))).grow_to(1500).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_bodies_is_forgotten() {
        let memory = memory();
        let mut share = memory.share(Some(client(1)));
        share.grow_to(8 << 10).await.unwrap();
        let mut second = memory.share(Some(client(1)));
        second.grow_to(8 << 10).await.unwrap();
        drop(share);
        assert_eq!(memory.lock_clients().len(), 1);
        drop(second);
        assert!(memory.lock_clients().is_empty());
        assert_eq!(memory.all.available_permits(), 256);
    }
}
