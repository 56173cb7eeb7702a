//! Limits of what all clients share, and the part that one client may use.
//!
//! A few bytes from one client must not exhaust something that all clients need, such as memory. So
//! each such resource has a [`Budget`]:
//!
//! ```text
//! Budget of 64, of which a client gets 16
//!
//! client A   holds 16; its next request waits for one of its own
//! client B   gets its first permits at once
//! ```
//!
//! A request first waits for the part of its client, and then for the budget. So the queue of the
//! budget contains no more of one client than its part, whatever the client sends.
//!
//! | file | contents |
//! |---|---|
//! | `client_net` | what counts as one client |
//! | `holdings` | what each client holds of a store, which frees it only after a time |
//! | `rate` | how much a client may use per second |
//! | `share` | what one request uses of a budget |
//! | `turns` | a queue in which clients take turns |
//! | `allocated` | what an allocation really takes |

mod allocated;
mod client_net;
mod holdings;
mod rate;
mod share;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Semaphore;

pub use self::client_net::ClientNet;
pub(crate) use self::{
    allocated::allocated_bytes,
    holdings::{Holdings, free_needed, largest_share},
    rate::{Rate, Reservation},
    share::Share,
    turns::Turns,
};

/// Permits that all clients share. A clone is the same budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    permits: usize,
    client_permits: usize,
    /// The clients that use permits.
    clients: Mutex<HashMap<ClientNet, Weak<Semaphore>>>,
}

impl Budget {
    /// Creates a budget of `permits`, of which one client may use `client_permits`.
    pub(crate) fn new(permits: usize, client_permits: usize) -> Self {
        let permits = permits.min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                all: Arc::new(Semaphore::new(permits)),
                permits,
                client_permits: client_permits.min(permits),
                clients: Mutex::default(),
            }),
        }
    }

    /// Returns an empty share for a request of `client`.
    ///
    /// A client without an address has no limit of its own.
    pub(crate) fn share(&self, client: Option<ClientNet>) -> Share {
        Share::new(self.clone(), client)
    }

    /// Waits up to `wait_max` for `permits`; returns `None` after that.
    ///
    /// A request for more than the part of a client gets the whole part.
    pub(crate) async fn acquire(
        &self,
        client: Option<ClientNet>,
        permits: usize,
        wait_max: Duration,
    ) -> Option<Share> {
        let mut share = self.share(client);
        share.grow(permits, wait_max).await.then_some(share)
    }

    /// Takes `permits` if they are free now.
    pub(crate) fn try_acquire(&self, client: Option<ClientNet>, permits: usize) -> Option<Share> {
        let mut share = self.share(client);
        share.try_grow(permits).then_some(share)
    }

    /// Returns how many permits are in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.shared.permits - self.shared.all.available_permits()
    }
}

impl Shared {
    /// Returns the semaphore that all requests of a client share.
    fn client_semaphore(&self, client: ClientNet) -> Arc<Semaphore> {
        let mut clients = self.lock_clients();
        if let Some(semaphore) = clients.get(&client).and_then(Weak::upgrade) {
            return semaphore;
        }
        let semaphore = Arc::new(Semaphore::new(self.client_permits));
        clients.insert(client, Arc::downgrade(&semaphore));
        semaphore
    }

    /// Forgets a client that uses nothing.
    fn forget_unused(&self, client: ClientNet) {
        let mut clients = self.lock_clients();
        if clients
            .get(&client)
            .is_some_and(|semaphore| semaphore.strong_count() == 0)
        {
            clients.remove(&client);
        }
    }

    fn lock_clients(&self) -> MutexGuard<'_, HashMap<ClientNet, Weak<Semaphore>>> {
        // No code panics while it holds this lock.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    fn acquire(
        budget: &Budget,
        client: impl Into<Option<u8>>,
        permits: usize,
    ) -> impl Future<Output = Option<Share>> {
        let client = client.into().map(|last| address(last).into());
        budget.acquire(client, permits, Duration::ZERO)
    }

    #[tokio::test]
    async fn a_client_that_uses_its_part_delays_no_other() {
        let budget = Budget::new(10, 4);
        let first = acquire(&budget, 1, 4).await;
        assert!(first.is_some());
        assert!(acquire(&budget, 1, 1).await.is_none());
        for other in [Some(2), None] {
            assert!(acquire(&budget, other, 4).await.is_some());
        }
        drop(first);
        assert!(acquire(&budget, 1, 4).await.is_some());
    }

    #[tokio::test]
    async fn a_large_request_gets_the_part_of_its_client() {
        let budget = Budget::new(10, 4);
        let share = acquire(&budget, 1, 100).await;
        assert_eq!(share.map(|share| share.permits()), Some(4));
        let share = acquire(&budget, None, 100).await.unwrap();
        assert_eq!((share.permits(), budget.used()), (10, 10));
    }

    #[tokio::test]
    async fn a_share_grows_and_shrinks() {
        let budget = Budget::new(10, 4);
        let mut share = budget.share(Some(address(1).into()));
        for (permits, is_granted) in [(1, true), (3, true), (1, true)] {
            assert_eq!(share.grow(permits, Duration::ZERO).await, is_granted);
        }
        assert_eq!((share.permits(), budget.used()), (4, 4));
        share.shrink_to(1);
        assert!(acquire(&budget, 1, 3).await.is_some());
    }

    #[test]
    fn permits_that_are_free_are_taken_without_waiting() {
        let budget = Budget::new(10, 4);
        let take = |client: Option<u8>, permits| {
            budget.try_acquire(client.map(|last| address(last).into()), permits)
        };
        let first = take(Some(1), 4);
        assert!(first.is_some() && take(Some(1), 1).is_none());
        let others = take(None, 6);
        assert!(others.is_some() && take(Some(2), 1).is_none());
        drop(first);
        assert!(take(Some(2), 4).is_some());
        assert_eq!(budget.used(), 6);
    }

    #[tokio::test]
    async fn a_client_that_uses_nothing_is_forgotten() {
        let budget = Budget::new(10, 4);
        let first = acquire(&budget, 1, 1).await;
        let second = acquire(&budget, 1, 1).await;
        drop(first);
        assert_eq!(budget.shared.lock_clients().len(), 1);
        drop(second);
        assert!(budget.shared.lock_clients().is_empty());
    }
}
