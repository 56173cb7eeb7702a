//! A rate per client: how much of a shared resource a client may use per second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ClientNet;

/// Clients whose allowance is remembered before those with a full one are forgotten.
const CLIENTS_BEFORE_CLEANUP: usize = 1024;

/// A rate that each client has for itself. A clone is the same rate.
///
/// A client that was quiet may use a burst at once. Turns are reserved in the order of the requests,
/// so no request of a client overtakes another one.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    /// Time that a client saves up at most.
    burst: Duration,
    per_second: u32,
    clients: Arc<Mutex<Clients>>,
}

#[derive(Debug, Default)]
struct Clients {
    /// When the allowance of each client is full again.
    full_at: HashMap<ClientNet, Instant>,
    cleanup_at: usize,
}

/// A part of the rate that a client will use. What it does not use is given back.
#[derive(Debug)]
pub(crate) struct Reservation {
    rate: Rate,
    client: Option<ClientNet>,
    reserved: u32,
    /// When the client may use it.
    pub(crate) starts_at: Instant,
}

impl Rate {
    /// Creates a rate of `per_second`, at least one, of which `burst` can be used at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            burst: Duration::from_secs(1) * burst / per_second,
            per_second,
            clients: Arc::default(),
        }
    }

    /// Reserves `amount` for a client. A client without an address has no limit.
    pub(crate) fn reserve(
        &self,
        client: Option<ClientNet>,
        amount: u32,
        now: Instant,
    ) -> Reservation {
        let starts_at = client.map_or(now, |client| self.add(client, amount, now));
        Reservation {
            rate: self.clone(),
            client,
            reserved: amount,
            starts_at,
        }
    }

    /// Adds `amount` to what a client uses. Returns when it may use it.
    fn add(&self, client: ClientNet, amount: u32, now: Instant) -> Instant {
        let mut clients = self.lock();
        clients.forget_full(now);
        let full_at = clients.full_at.entry(client).or_insert(now);
        let before = (*full_at).max(now);
        *full_at = before + self.time_for(amount);
        // The client waits for as long as it is beyond its burst.
        before
            .checked_sub(self.burst)
            .map_or(now, |start| start.max(now))
    }

    fn give_back(&self, client: ClientNet, amount: u32) {
        if let Some(full_at) = self.lock().full_at.get_mut(&client)
            && let Some(earlier) = full_at.checked_sub(self.time_for(amount))
        {
            *full_at = earlier;
        }
    }

    fn time_for(&self, amount: u32) -> Duration {
        Duration::from_secs(1) * amount / self.per_second
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        // No code panics while it holds this lock.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    /// Forgets clients with a full allowance, each time their number has doubled.
    fn forget_full(&mut self, now: Instant) {
        if self.full_at.len() >= self.cleanup_at.max(CLIENTS_BEFORE_CLEANUP) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.cleanup_at = self.full_at.len() * 2;
        }
    }
}

impl Reservation {
    /// Ends the use, of which `used` was needed. This may be more than was reserved.
    pub(crate) fn finish(mut self, used: u32) {
        if let Some(client) = self.client
            && used > self.reserved
        {
            self.rate.add(client, used - self.reserved, Instant::now());
        }
        self.reserved = self.reserved.saturating_sub(used);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.rate.give_back(client, self.reserved);
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

    #[test]
    fn a_client_waits_after_its_burst_and_delays_no_other() {
        let (rate, now) = (Rate::new(100, 50), Instant::now());
        let wait = |client, amount| {
            let reservation = rate.reserve(client, amount, now);
            let wait = reservation.starts_at - now;
            reservation.finish(amount);
            wait.as_millis()
        };
        assert_eq!(wait(Some(client(1)), 50), 0);
        assert_eq!(wait(Some(client(1)), 10), 0);
        assert_eq!(wait(Some(client(1)), 10), 100);
        assert_eq!(wait(Some(client(1)), 10), 200);
        assert_eq!(wait(Some(client(2)), 10), 0);
        assert_eq!(wait(None, 1_000_000), 0);
        assert_eq!(wait(None, 10), 0);
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let (rate, now) = (Rate::new(100, 0), Instant::now());
        let wait = || {
            let reservation = rate.reserve(Some(client(1)), 100, now);
            (reservation.starts_at - now, reservation)
        };
        let (_, first) = wait();
        first.finish(10);
        let (waited, second) = wait();
        assert_eq!(waited.as_millis(), 100);
        drop(second);
        assert_eq!(wait().0.as_millis(), 100);
    }

    #[test]
    fn clients_that_used_nothing_lately_are_forgotten() {
        let (rate, now) = (Rate::new(100, 50), Instant::now());
        for number in 0..3000_u32 {
            let address = IpAddr::from(number.to_be_bytes()).into();
            rate.reserve(Some(address), 1, now + Duration::from_secs(number.into()))
                .finish(1);
        }
        assert!(rate.lock().full_at.len() <= CLIENTS_BEFORE_CLEANUP);
    }
}
