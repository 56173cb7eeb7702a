//! Finds the primary by its sentinels, and learns from them that another one takes over.
//!
//! All sentinels are asked, and the report with the highest configuration epoch counts. The
//! supervisor also requires that the Redis at the address has the role of a primary.
//!
//! In a planned failover (`SENTINEL FAILOVER`) the old primary accepts writes for seconds after the
//! promotion, and all of them are lost. So a node leaves it before the promotion:
//!
//! ```text
//! sentinel   +selected-slave R ── 50–100 ms ──► promotes R ──► +promoted-slave ──► +switch-master
//! node       leaves P, tries R ─────────────────► R is a primary: verify, publish
//! ```
//!
//! Publishes wait meanwhile, up to `--redis-timeout`.

mod events;
mod reports;
mod watch;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};

pub(super) use self::watch::watch_sentinel;
use self::{
    events::SentinelEvent,
    reports::{Report, newest_report, parse_report, report_commands},
};
use super::{dial::Dialer, target::ServerAddress};

/// Longest time for the replies of one sentinel.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer the other sentinels have once a majority has replied.
const GRACE: Duration = Duration::from_millis(100);
/// How long a node waits for the promotion of a replica that a sentinel has selected.
const PROMOTION_MAX: Duration = Duration::from_secs(5);
/// Pause between two questions while nothing happens, in case an announcement is lost.
const ASK_INTERVAL: Duration = Duration::from_secs(10);

/// The sentinels of one primary.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<ServerAddress>,
    primary: String,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Highest configuration epoch of a report that this node has used.
    epoch: u64,
    /// The replica that is about to be promoted, and how long to wait for that.
    promised: Option<(ServerAddress, Instant)>,
}

impl Known {
    /// Returns the replica that is about to be promoted.
    fn promised(&mut self) -> Option<ServerAddress> {
        let now = Instant::now();
        self.promised.take_if(|(_, until)| *until <= now);
        self.promised.as_ref().map(|(address, _)| address.clone())
    }
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<ServerAddress>, primary: String) -> Self {
        Self {
            addresses,
            primary,
            known: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Returns the address at which to try the primary.
    ///
    /// # Errors
    ///
    /// Why the sentinels name none, in words.
    pub(super) async fn find_primary(&self, dialer: &Dialer) -> Result<ServerAddress, String> {
        if let Some(promised) = self.known().promised() {
            return Ok(promised);
        }
        let reports = self.ask_all(dialer).await;
        let mut known = self.known();
        let newest = newest_report(&reports, self.addresses.len(), known.epoch);
        let newest = newest.ok_or_else(|| self.describe_silence(reports.len()))?;
        known.epoch = newest.epoch;
        Ok(newest.primary.clone())
    }

    fn describe_silence(&self, reports: usize) -> String {
        let (asked, primary) = (self.addresses.len(), &self.primary);
        if reports == 0 {
            format!("none of the {asked} sentinels knows the primary {primary}")
        } else {
            format!("only {reports} of {asked} sentinels reply, and with an old configuration")
        }
    }

    /// Records that this node uses the primary at `address`.
    pub(super) fn confirm(&self, address: &ServerAddress) {
        let mut known = self.known();
        if known.promised().as_ref() == Some(address) {
            known.promised = None;
        }
    }

    /// Waits until the primary is no longer the one at `current`; returns why, in words.
    pub(super) async fn wait_for_another(
        &self,
        current: &ServerAddress,
        dialer: &Dialer,
    ) -> String {
        loop {
            // Both outcomes lead to the same question.
            let _ = timeout(ASK_INTERVAL, self.changed.notified()).await;
            if let Some(why) = self.another_than(current, dialer).await {
                return why;
            }
        }
    }

    /// Asks whether the primary is another one than that at `current`; returns why, in words.
    pub(super) async fn another_than(
        &self,
        current: &ServerAddress,
        dialer: &Dialer,
    ) -> Option<String> {
        let promised = self.known().promised();
        if let Some(promised) = promised.filter(|promised| promised != current) {
            return Some(format!("the sentinels promote {promised}"));
        }
        let reports = self.ask_all(dialer).await;
        let other = self.judge(&reports, current)?;
        Some(format!("the sentinels report the primary {other}"))
    }

    /// Returns the primary of a newer configuration than that of `current`.
    fn judge(&self, reports: &[Report], current: &ServerAddress) -> Option<ServerAddress> {
        let mut known = self.known();
        let newest = newest_report(reports, self.addresses.len(), known.epoch)?;
        if newest.primary == *current {
            known.epoch = newest.epoch;
            return None;
        }
        // The primary was found before the sentinels' epoch rose if it was a promised one.
        (newest.epoch > known.epoch).then(|| newest.primary.clone())
    }

    /// Asks all sentinels at once.
    async fn ask_all(&self, dialer: &Dialer) -> Vec<Report> {
        let majority = self.addresses.len() / 2 + 1;
        let mut pending: FuturesUnordered<_> = self
            .addresses
            .iter()
            .map(|address| timeout(REPLY_TIMEOUT, self.ask(address, dialer)))
            .collect();
        let mut reports = Vec::new();
        let mut deadline = Instant::now() + REPLY_TIMEOUT;
        while let Ok(Some(reply)) = timeout_at(deadline, pending.next()).await {
            reports.extend(reply.ok().flatten());
            if reports.len() == majority {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        reports
    }

    async fn ask(&self, address: &ServerAddress, dialer: &Dialer) -> Option<Report> {
        let connection = dialer.open_sentinel_commands(address, REPLY_TIMEOUT).await;
        let mut connection = connection.ok()?;
        let commands = report_commands(&self.primary);
        parse_report(commands.query_async(&mut connection).await.ok()?)
    }

    /// Applies an announcement of a sentinel.
    fn apply(&self, event: SentinelEvent) {
        match event {
            SentinelEvent::Selected(address) => {
                self.known().promised = Some((address, Instant::now() + PROMOTION_MAX));
            }
            SentinelEvent::Aborted => self.known().promised = None,
            SentinelEvent::Changed => {}
        }
        self.changed.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code panics while it holds this lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits before the next attempt to reach a sentinel.
async fn pause() {
    sleep(Duration::from_millis(500)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: &str) -> ServerAddress {
        ServerAddress::reported("127.0.0.1", port).unwrap()
    }

    fn report(port: &str, epoch: u64) -> Report {
        let primary = address(port);
        Report { primary, epoch }
    }

    #[tokio::test(start_paused = true)]
    async fn a_promised_primary_is_waited_for_and_never_left_for_the_old_one() {
        let sentinels = Sentinels::new(vec![address("1"), address("2"), address("3")], "m".into());
        sentinels.known().epoch = 4;
        assert_eq!(sentinels.known().promised(), None);
        sentinels.apply(SentinelEvent::Selected(address("8")));
        assert_eq!(sentinels.known().promised(), Some(address("8")));
        sentinels.confirm(&address("7"));
        assert_eq!(sentinels.known().promised(), Some(address("8")));
        sentinels.confirm(&address("8"));
        assert_eq!(sentinels.known().promised(), None);
        // The sentinels still report the old primary, and then the new one.
        let (old, new) = (report("7", 4), report("8", 5));
        assert_eq!(
            sentinels.judge(&[old.clone(), old.clone()], &address("8")),
            None
        );
        assert_eq!(sentinels.judge(&[old.clone(), new], &address("8")), None);
        assert_eq!(sentinels.known().epoch, 5);
        assert_eq!(sentinels.judge(&[old], &address("8")), None);
        assert_eq!(
            sentinels.judge(&[report("9", 6)], &address("8")),
            Some(address("9"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_promotion_that_does_not_happen_is_given_up() {
        let sentinels = Sentinels::new(vec![address("1")], "m".into());
        sentinels.apply(SentinelEvent::Selected(address("8")));
        sentinels.apply(SentinelEvent::Aborted);
        assert_eq!(sentinels.known().promised(), None);
        sentinels.apply(SentinelEvent::Selected(address("8")));
        tokio::time::advance(PROMOTION_MAX).await;
        assert_eq!(sentinels.known().promised(), None);
    }
}
