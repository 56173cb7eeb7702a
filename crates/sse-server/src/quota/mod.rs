//! Quotas: how much one caller may publish, subscribe and search.
//!
//! A caller is a [`QuotaKey`]: the network of an anonymous client, or a principal. Callers with the
//! same limits share one `Quotas`, and [`CallerQuotas`] has all of them.
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
    /// Channels that are created.
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

    const fn bit(self) -> u8 {
        1 << self as u8
    }

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

    /// The key of the limit in an access rule.
    const fn rule_key(self) -> &'static str {
        match self {
            Self::Events => "the limit `events` of its access rule",
            Self::Bytes => "the limit `bytes` of its access rule",
            Self::Streams => "the limit `streams` of its access rule",
            Self::Opens => "the limit `opens` of its access rule",
            Self::Channels => "the limit `channels` of its access rule",
            Self::Searches => "the limit `searches` of its access rule",
        }
    }

    /// The flag that sets the limit of callers whose rule has none.
    const fn flag(self) -> &'static str {
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
    /// Whether an access rule sets the limit, and not a flag.
    pub is_of_rule: bool,
}

impl QuotaExceeded {
    /// Names the setting that has the limit, for messages.
    pub(crate) const fn setting(&self) -> &'static str {
        if self.is_of_rule {
            self.limit.rule_key()
        } else {
            self.limit.flag()
        }
    }
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
struct Quotas {
    limits: Limits,
    events: Option<Arc<RateTable>>,
    bytes: Option<Arc<RateTable>>,
    opens: Option<Arc<RateTable>>,
    channels: Option<Arc<RateTable>>,
    searches: Option<Arc<RateTable>>,
    /// The streams of all callers, whatever their limits are.
    streams: OpenStreams,
    metrics: Metrics,
}

impl Quotas {
    /// Creates the quotas of callers that have used nothing yet.
    fn new(limits: Limits, streams: OpenStreams, metrics: Metrics) -> Self {
        metrics.create_limits(LimitKind::ALL.map(LimitKind::as_str));
        let table = |rate: Option<Rate>| rate.map(RateTable::new).map(Arc::new);
        Self {
            limits,
            events: table(limits.events),
            bytes: table(limits.bytes),
            opens: table(limits.opens),
            channels: table(limits.channels),
            searches: table(limits.searches),
            streams,
            metrics,
        }
    }

    /// Returns quotas with other limits. What was used of a limit that is the same stays used.
    fn with_limits(&self, limits: Limits) -> Self {
        let table = |old: &Option<Arc<RateTable>>, rate: Option<Rate>| {
            let same = old.as_ref().filter(|table| Some(table.rate()) == rate);
            let new = || rate.map(RateTable::new).map(Arc::new);
            same.cloned().or_else(new)
        };
        Self {
            limits,
            events: table(&self.events, limits.events),
            bytes: table(&self.bytes, limits.bytes),
            opens: table(&self.opens, limits.opens),
            channels: table(&self.channels, limits.channels),
            searches: table(&self.searches, limits.searches),
            streams: self.streams.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn rate(&self, limit: LimitKind) -> Option<&RateTable> {
        match limit {
            LimitKind::Events => self.events.as_deref(),
            LimitKind::Bytes => self.bytes.as_deref(),
            LimitKind::Opens => self.opens.as_deref(),
            LimitKind::Channels => self.channels.as_deref(),
            LimitKind::Searches => self.searches.as_deref(),
            LimitKind::Streams => None,
        }
    }
}

/// The quota of one caller.
#[derive(Debug)]
pub struct CallerQuota {
    quotas: Arc<Quotas>,
    key: Option<QuotaKey>,
    /// The limits that the access rule of the caller sets, one bit each.
    of_rule: u8,
}

impl CallerQuota {
    /// A caller without a key has no limit. `own` are the limits of its access rule.
    fn new(quotas: Arc<Quotas>, key: Option<QuotaKey>, own: &Limits) -> Self {
        Self {
            quotas,
            key,
            of_rule: own.mask(),
        }
    }

    fn exceeded(&self, limit: LimitKind, remedy: Remedy) -> QuotaExceeded {
        self.quotas.metrics.rate_limited(limit.as_str());
        QuotaExceeded {
            limit,
            remedy,
            is_of_rule: self.of_rule & limit.bit() != 0,
        }
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
        taken.map_err(|remedy| self.exceeded(limit, remedy))
    }

    /// Counts a stream until the permit is dropped; returns `None` if the caller has no limit.
    ///
    /// # Errors
    ///
    /// The caller has as many streams as it may have, or has opened too many in a short time.
    pub fn open_stream(&self) -> Result<Option<StreamPermit>, QuotaExceeded> {
        self.take(LimitKind::Opens, 1)?;
        let (Some(key), Some(max)) = (&self.key, self.quotas.limits.streams) else {
            return Ok(None);
        };
        let full = || self.exceeded(LimitKind::Streams, Remedy::AtMost(max.get() as u64));
        let permit = self.quotas.streams.open(key, max.get());
        permit.map(Some).ok_or_else(full)
    }
}

#[cfg(test)]
mod tests;
