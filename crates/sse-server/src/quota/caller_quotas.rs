//! The quotas of all callers: those whose limits are the flags, and those with limits of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{CallerQuota, ClientNet, Limits, QuotaKey, Quotas, open_streams::OpenStreams};
use crate::metrics::Metrics;

/// Different limits that are remembered. The configuration rarely has more than a few; after many
/// reloads, those of earlier files are forgotten, and with them what was used.
const LIMITS_MAX: usize = 1000;

/// The quotas of all callers.
#[derive(Debug)]
pub struct CallerQuotas {
    /// The quotas of callers with the limits of the flags.
    common: ArcSwap<Quotas>,
    /// The quotas of callers with other limits than the flags.
    others: Mutex<HashMap<Limits, Arc<Quotas>>>,
}

impl CallerQuotas {
    /// Creates the quotas of callers that have used nothing yet. `flags` are the limits of a caller
    /// that has none of its own.
    #[must_use]
    pub fn new(flags: Limits, metrics: Metrics) -> Self {
        let common = Quotas::new(flags, OpenStreams::default(), metrics);
        Self {
            common: ArcSwap::from_pointee(common),
            others: Mutex::default(),
        }
    }

    /// Replaces the limits of the flags. What was used of a limit that is the same stays used, and
    /// open streams stay counted.
    pub fn set_flags(&self, flags: Limits) {
        let common = self.common.load();
        if common.limits != flags {
            self.common.store(Arc::new(common.with_limits(flags)));
        }
    }

    /// Returns the quota of a client; one without an address has no limit.
    #[must_use]
    pub fn of_client(&self, client: Option<ClientNet>, limits: &Limits) -> CallerQuota {
        let key = client.map(QuotaKey::Client);
        CallerQuota::new(self.with_limits(limits), key, limits)
    }

    /// Returns the quota of the principal with this number.
    #[must_use]
    pub fn of_principal(&self, number: u64, limits: &Limits) -> CallerQuota {
        let key = QuotaKey::Principal(number);
        CallerQuota::new(self.with_limits(limits), Some(key), limits)
    }

    /// Returns the quotas of callers with these limits; the flags replace those that are not set.
    fn with_limits(&self, limits: &Limits) -> Arc<Quotas> {
        let common = self.common.load();
        let effective = limits.or(&common.limits);
        if effective == common.limits {
            return Arc::clone(&common);
        }
        // No code panics while it holds this lock.
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= LIMITS_MAX && !others.contains_key(&effective) {
            others.clear();
        }
        let quotas = others.entry(effective);
        quotas
            .or_insert_with(|| {
                let (streams, metrics) = (common.streams.clone(), common.metrics.clone());
                Arc::new(Quotas::new(effective, streams, metrics))
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{LimitKind, Rate};

    #[test]
    fn a_principal_has_its_own_limits_and_those_of_the_flags_otherwise() {
        let rate = |text| Rate::parse_count(text).ok();
        let flags = Limits {
            events: rate("1/h"),
            searches: rate("1/h"),
            ..Limits::default()
        };
        let quotas = CallerQuotas::new(flags, Metrics::new());
        let own = Limits {
            events: rate("2/h"),
            ..Limits::default()
        };
        let caller = |number, limits: &Limits| quotas.of_principal(number, limits);
        assert!(caller(1, &own).take(LimitKind::Events, 2).is_ok());
        assert!(caller(1, &own).take(LimitKind::Events, 1).is_err());
        assert!(caller(2, &own).take(LimitKind::Events, 2).is_ok());
        assert!(caller(1, &own).take(LimitKind::Searches, 1).is_ok());
        assert!(caller(1, &own).take(LimitKind::Searches, 1).is_err());
        assert!(
            caller(3, &Limits::default())
                .take(LimitKind::Events, 1)
                .is_ok()
        );
        assert!(
            caller(3, &Limits::default())
                .take(LimitKind::Events, 1)
                .is_err()
        );
        let nowhere = quotas.of_client(None, &Limits::default());
        assert!(nowhere.take(LimitKind::Events, 1000).is_ok());
    }

    #[test]
    fn an_error_names_the_setting_that_has_the_limit() {
        let flags = Limits {
            events: Rate::parse_count("1/h").ok(),
            ..Limits::default()
        };
        let own = Limits {
            searches: Rate::parse_count("1/h").ok(),
            ..Limits::default()
        };
        let caller = CallerQuotas::new(flags, Metrics::new()).of_principal(1, &own);
        for (limit, setting) in [
            (LimitKind::Events, "--limit-events"),
            (
                LimitKind::Searches,
                "the limit `searches` of its access rule",
            ),
        ] {
            assert_eq!(caller.take(limit, 2).unwrap_err().setting(), setting);
        }
    }

    #[test]
    fn new_limits_of_the_flags_apply_and_what_was_used_stays_used() {
        let limits = |events: &str, streams| Limits {
            events: Rate::parse_count(events).ok(),
            searches: Rate::parse_count("1/h").ok(),
            streams: std::num::NonZeroUsize::new(streams),
            ..Limits::default()
        };
        let quotas = CallerQuotas::new(limits("1/h", 1), Metrics::new());
        let caller = || quotas.of_principal(1, &Limits::default());
        assert!(caller().take(LimitKind::Searches, 1).is_ok());
        let permit = caller().open_stream();
        assert!(permit.is_ok() && caller().take(LimitKind::Events, 2).is_err());
        quotas.set_flags(limits("2/h", 2));
        assert!(caller().take(LimitKind::Events, 2).is_ok());
        assert!(caller().take(LimitKind::Searches, 1).is_err());
        let second = caller().open_stream();
        assert!(second.is_ok() && caller().open_stream().is_err());
    }
}
