//! What one request uses of a budget.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Budget, ClientNet};

/// Permits of a [`Budget`], until they are dropped.
///
/// Requests that grow while they hold permits can wait for one another, up to the time that each of
/// them waits. So a request should grow once, or from a small part to the whole.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    client: Option<ClientShare>,
    of_all: Option<OwnedSemaphorePermit>,
}

/// What the request uses of the part of its client.
#[derive(Debug)]
struct ClientShare {
    net: ClientNet,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn new(budget: Budget, client: Option<ClientNet>) -> Self {
        let client = client.map(|net| ClientShare {
            net,
            semaphore: budget.shared.client_semaphore(net),
            permit: None,
        });
        Self {
            budget,
            client,
            of_all: None,
        }
    }

    /// Returns how many permits the request holds.
    pub(crate) fn permits(&self) -> usize {
        count(self.of_all.as_ref())
    }

    /// Waits up to `wait_max` for `more` permits; returns whether it got them.
    ///
    /// A request that would hold more than the part of its client gets the whole part.
    pub(crate) async fn grow(&mut self, more: usize, wait_max: Duration) -> bool {
        let more = more.min(self.most().saturating_sub(self.permits()));
        if more == 0 {
            return true;
        }
        timeout(wait_max, self.acquire(more)).await.is_ok()
    }

    /// Takes `more` permits if they are free now; returns whether it got them.
    pub(crate) fn try_grow(&mut self, more: usize) -> bool {
        let client = self.client.as_ref();
        let of_client = client.map(|client| try_acquire(&client.semaphore, more));
        let (None | Some(Some(_))) = of_client else {
            return false;
        };
        let Some(of_all) = try_acquire(&self.budget.shared.all, more) else {
            return false;
        };
        if let Some(client) = &mut self.client {
            add(&mut client.permit, of_client.flatten());
        }
        add(&mut self.of_all, Some(of_all));
        true
    }

    /// Returns how many permits one request may hold.
    fn most(&self) -> usize {
        let shared = &self.budget.shared;
        match self.client {
            Some(_) => shared.client_permits,
            None => shared.permits,
        }
    }

    /// Acquires `more` permits of both semaphores. A dropped future acquires nothing.
    async fn acquire(&mut self, more: usize) {
        let of_client = match &self.client {
            Some(client) => acquire(&client.semaphore, more).await,
            None => None,
        };
        let of_all = acquire(&self.budget.shared.all, more).await;
        if let Some(client) = &mut self.client {
            add(&mut client.permit, of_client);
        }
        add(&mut self.of_all, of_all);
    }

    /// Releases what exceeds `permits`.
    pub(crate) fn shrink_to(&mut self, permits: usize) {
        release_excess(&mut self.of_all, permits);
        if let Some(client) = &mut self.client {
            release_excess(&mut client.permit, permits);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(ClientShare {
            net,
            semaphore,
            permit,
        }) = self.client.take()
        {
            drop((permit, semaphore));
            self.budget.shared.forget_unused(net);
        }
    }
}

fn count(permit: Option<&OwnedSemaphorePermit>) -> usize {
    permit.map_or(0, OwnedSemaphorePermit::num_permits)
}

fn try_acquire(semaphore: &Arc<Semaphore>, permits: usize) -> Option<OwnedSemaphorePermit> {
    let permits = u32::try_from(permits).ok()?;
    semaphore.clone().try_acquire_many_owned(permits).ok()
}

/// Waits for permits. The semaphores are never closed.
async fn acquire(semaphore: &Arc<Semaphore>, permits: usize) -> Option<OwnedSemaphorePermit> {
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    semaphore.clone().acquire_many_owned(permits).await.ok()
}

fn add(permit: &mut Option<OwnedSemaphorePermit>, more: Option<OwnedSemaphorePermit>) {
    match (permit.as_mut(), more) {
        (Some(permit), Some(more)) => permit.merge(more),
        (None, more) => *permit = more,
        (Some(_), None) => {}
    }
}

fn release_excess(permit: &mut Option<OwnedSemaphorePermit>, keep: usize) {
    let excess = count(permit.as_ref()).saturating_sub(keep);
    if let Some(permit) = permit {
        drop(permit.split(excess));
    }
}
