//! Searches: reads of the log for few events, or for none, such as `last=` with a filter.
//!
//! A short request can make a search read a hundred thousand events. So a search waits for a turn
//! before each page:
//!
//! ```text
//! client A   page page page page …   at most two at a time, and SCANNED_PER_SECOND events
//! client B   page ─► its turn comes after the pages that are being read
//! ```
//!
//! Four pages are read at a time. Streams that join at the end, resume without a filter, or find
//! their pages in the cache never wait here.

use std::time::{Duration, Instant};

use tokio::{
    task::yield_now,
    time::{sleep_until, timeout_at},
};

use crate::{
    broker::BrokerError,
    budget::{Budget, ClientNet, Rate, Reservation, Share},
    metrics::{Level, Metrics, Waiting},
};

/// Pages that are read for searches at a time.
const PAGES_MAX: usize = 4;
/// Pages that are read for one client at a time.
const CLIENT_PAGES_MAX: usize = 2;
/// Events per second that searches of one client may read.
const SCANNED_PER_SECOND: u32 = 500_000;
/// Events that searches of a client may read at once: ten searches of the largest size.
const SCANNED_BURST: u32 = 1_000_000;

/// The limits of all searches. A clone is the same limits.
#[derive(Debug, Clone)]
pub struct Searches {
    pages: Budget,
    scanned: Rate,
    waiting: Level,
    metrics: Metrics,
}

/// The searches of one client.
#[derive(Debug, Clone)]
pub struct Searcher {
    searches: Searches,
    client: Option<ClientNet>,
    /// `None` waits for as long as it takes.
    wait_until: Option<Instant>,
}

impl Searches {
    /// Creates the limits.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            pages: Budget::new(PAGES_MAX, CLIENT_PAGES_MAX),
            scanned: Rate::new(SCANNED_PER_SECOND, SCANNED_BURST),
            waiting: metrics.searches_waiting(),
            metrics,
        }
    }

    /// Returns the searches of a client, which wait for as long as it takes.
    pub(crate) fn of_client(&self, client: Option<ClientNet>) -> Searcher {
        Searcher {
            searches: self.clone(),
            client,
            wait_until: None,
        }
    }
}

impl Searcher {
    /// Returns the client that searches, if it is known.
    pub(crate) const fn client(&self) -> Option<ClientNet> {
        self.client
    }

    /// Returns the searches of this client whose pages all begin within `wait_max` from now.
    pub(crate) fn waiting_up_to(self, wait_max: Duration) -> Self {
        Self {
            wait_until: Instant::now().checked_add(wait_max),
            ..self
        }
    }

    /// Waits for the turn to read a page of about `events`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::TooManySearches`] if the turn does not come in time.
    pub(crate) async fn start_page(&self, events: usize) -> Result<PageTurn, BrokerError> {
        // A log in memory answers at once, so a search would not let other tasks run otherwise.
        yield_now().await;
        let waiting = Waiting::new(&self.searches.waiting);
        let turn = self.wait_for_page(events);
        let turn = match self.wait_until {
            Some(end) => timeout_at(end.into(), turn).await.ok().flatten(),
            None => turn.await,
        };
        drop(waiting);
        turn.ok_or(BrokerError::TooManySearches)
    }

    async fn wait_for_page(&self, events: usize) -> Option<PageTurn> {
        let Searches {
            pages,
            scanned,
            metrics,
            ..
        } = &self.searches;
        let reservation = scanned.reserve(self.client, to_u32(events), Instant::now());
        if reservation.starts_at > Instant::now() {
            sleep_until(reservation.starts_at.into()).await;
        }
        let share = pages.acquire(self.client, 1, Duration::MAX).await?;
        Some(PageTurn {
            reservation,
            metrics: metrics.clone(),
            _share: share,
        })
    }
}

/// The right to read one page.
#[derive(Debug)]
pub(crate) struct PageTurn {
    reservation: Reservation,
    metrics: Metrics,
    _share: Share,
}

impl PageTurn {
    /// Ends the turn after `events` were read.
    pub(crate) fn finish(self, events: usize) {
        self.metrics.searched(events);
        self.reservation.finish(to_u32(events));
    }
}

fn to_u32(events: usize) -> u32 {
    u32::try_from(events).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> ClientNet {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test]
    async fn a_client_that_searches_delays_no_other() {
        let searches = Searches::new(Metrics::new());
        let attacker = searches.of_client(Some(client(1)));
        let held = [
            attacker.start_page(1000).await.unwrap(),
            attacker.start_page(1000).await.unwrap(),
        ];
        let impatient = attacker.clone().waiting_up_to(Duration::ZERO);
        assert!(impatient.start_page(1000).await.is_err());
        let victim = searches.of_client(Some(client(2)));
        drop(victim.start_page(1000).await.unwrap());
        drop(held);
        assert!(attacker.start_page(1000).await.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_has_read_many_events_waits() {
        let searches = Searches::new(Metrics::new());
        let attacker = searches
            .of_client(Some(client(1)))
            .waiting_up_to(Duration::ZERO);
        let turn = attacker.start_page(1000).await.unwrap();
        turn.finish(100 * SCANNED_BURST as usize);
        assert!(attacker.start_page(1000).await.is_err());
        let victim = searches
            .of_client(Some(client(2)))
            .waiting_up_to(Duration::ZERO);
        victim.start_page(1000).await.unwrap().finish(10);
    }
}
