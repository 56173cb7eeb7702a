//! Quotas: how much one caller may publish, subscribe and search.
//!
//! A caller is a [`QuotaKey`]: the network of an anonymous client, or a principal. Callers with the
//! same limits share one [`Quotas`], and [`CallerQuotas`] has all of them.
//!
//! ```text
//!                 Quotas                  one per Limits: those of --limit-…, and those of access rules
//!  key ──┬─► RateTable  events
//!        ├─► RateTable  bytes             a bucket per key, with a bound on the keys
//!        ├─► RateTable  opens, channels, searches
//!        └─► OpenStreams                  a count per key
//! ```
//!
//! Quotas are per node, and a restart forgets them. A limit that is not set costs nothing.
//!
//! | file | contents |
//! |---|---|
//! | `caller_quotas` | the quotas of all callers, by their limits |
//! | `limits` | the limits, and the form of a rate |
//! | `rate_table` | the rates of all keys |
//! | `bounded_store` | what a rate remembers, for a bounded number of keys |
//! | `open_streams` | the open streams of each key |

mod bounded_store;
mod caller_quotas;
mod limits;
mod open_streams;
mod rate_table;

use std::{sync::Arc, time::Duration};

pub use self::{
    caller_quotas::CallerQuotas,
    limits::{Limits, Rate},
    open_streams::StreamPermit,
};
use self::{open_streams::OpenStreams, rate_table::RateTable};
pub use crate::budget::ClientNet;
use crate::metrics::Metrics;

/// Whose quota it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum QuotaKey {
    /// An anonymous client, by its network.
    Client(ClientNet),
    /// A principal, by its number.
    Principal(u64),
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Published events.
    Events,
    /// Bytes of the bodies of publishes.
    Bytes,
    /// Streams that are open at the same time.
    Streams,
    /// Streams that are opened.
    Opens,
    /// Channels that the first publish creates.
    Channels,
    /// Requests that read or search the log for one client alone.
    Searches,
}

impl LimitKind {
    const ALL: [Self; 6] = [
        Self::Events,
        Self::Bytes,
        Self::Streams,
        Self::Opens,
        Self::Channels,
        Self::Searches,
    ];

    /// Value of the label `limit` in the metrics, and unit in messages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bytes => "bytes",
            Self::Streams => "streams",
            Self::Opens => "opens",
            Self::Channels => "channels",
            Self::Searches => "searches",
        }
    }

    /// The flag that sets the limit of anonymous clients.
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Events => "--limit-events",
            Self::Bytes => "--limit-bytes",
            Self::Streams => "--limit-streams",
            Self::Opens => "--limit-opens",
            Self::Channels => "--limit-channels",
            Self::Searches => "--limit-searches",
        }
    }
}

/// A caller wanted more than its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// The limit.
    pub limit: LimitKind,
    /// What would help.
    pub remedy: Remedy,
}

/// What helps a caller that wanted more than its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same request may succeed after this time.
    WaitFor(Duration),
    /// A request that wants at most this much. The same request can never succeed.
    AtMost(u64),
}

/// The quotas of all callers with the same limits.
#[derive(Debug)]
pub struct Quotas {
    events: Option<RateTable>,
    bytes: Option<RateTable>,
    opens: Option<RateTable>,
    channels: Option<RateTable>,
    searches: Option<RateTable>,
    streams: Option<OpenStreams>,
    metrics: Metrics,
}

impl Quotas {
    /// Creates the quotas of callers that have used nothing yet.
    #[must_use]
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        metrics.create_limits(LimitKind::ALL.map(LimitKind::as_str));
        let table = |rate: Option<Rate>| rate.map(RateTable::new);
        Self {
            events: table(limits.events),
            bytes: table(limits.bytes),
            opens: table(limits.opens),
            channels: table(limits.channels),
            searches: table(limits.searches),
            streams: limits.streams.map(OpenStreams::new),
            metrics,
        }
    }

    const fn rate(&self, limit: LimitKind) -> Option<&RateTable> {
        match limit {
            LimitKind::Events => self.events.as_ref(),
            LimitKind::Bytes => self.bytes.as_ref(),
            LimitKind::Opens => self.opens.as_ref(),
            LimitKind::Channels => self.channels.as_ref(),
            LimitKind::Searches => self.searches.as_ref(),
            LimitKind::Streams => None,
        }
    }

    fn exceeded(&self, limit: LimitKind, remedy: Remedy) -> QuotaExceeded {
        self.metrics.rate_limited(limit.as_str());
        QuotaExceeded { limit, remedy }
    }
}

/// The quota of one caller.
#[derive(Debug)]
pub struct CallerQuota {
    quotas: Arc<Quotas>,
    key: Option<QuotaKey>,
}

impl CallerQuota {
    /// A caller without a key has no limit.
    const fn new(quotas: Arc<Quotas>, key: Option<QuotaKey>) -> Self {
        Self { quotas, key }
    }

    /// Whether the caller has a limit of this kind.
    #[must_use]
    pub fn has_rate(&self, limit: LimitKind) -> bool {
        self.key.is_some() && self.quotas.rate(limit).is_some()
    }

    /// Takes an amount out of a rate.
    ///
    /// # Errors
    ///
    /// The caller has not that much, and nothing was taken.
    pub fn take(&self, limit: LimitKind, amount: usize) -> Result<(), QuotaExceeded> {
        let (Some(key), Some(table)) = (&self.key, self.quotas.rate(limit)) else {
            return Ok(());
        };
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        let taken = table.take(key, amount);
        taken.map_err(|remedy| self.quotas.exceeded(limit, remedy))
    }

    /// Counts a stream until the permit is dropped; returns `None` if the caller has no limit.
    ///
    /// # Errors
    ///
    /// The caller has as many streams as it may have, or has opened too many in a short time.
    pub fn open_stream(&self) -> Result<Option<StreamPermit>, QuotaExceeded> {
        self.take(LimitKind::Opens, 1)?;
        let (Some(key), Some(streams)) = (&self.key, &self.quotas.streams) else {
            return Ok(None);
        };
        let full = || {
            let remedy = Remedy::AtMost(streams.max() as u64);
            self.quotas.exceeded(LimitKind::Streams, remedy)
        };
        streams.open(key).map(Some).ok_or_else(full)
    }
}

#[cfg(test)]
mod tests;
