//! The quotas of all callers: those whose limits are the flags, and those with limits of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{CallerQuota, ClientNet, Limits, QuotaKey, Quotas};
use crate::metrics::Metrics;

/// Different limits that are remembered. The configuration rarely has more than a few; after many
/// reloads, those of earlier files are forgotten, and with them what was used.
const LIMITS_MAX: usize = 1000;

/// The quotas of all callers.
#[derive(Debug)]
pub struct CallerQuotas {
    flags: Limits,
    common: Arc<Quotas>,
    /// The quotas of callers with other limits than the flags.
    others: Mutex<HashMap<Limits, Arc<Quotas>>>,
    metrics: Metrics,
}

impl CallerQuotas {
    /// Creates the quotas of callers that have used nothing yet. `flags` are the limits of a caller
    /// that has none of its own.
    #[must_use]
    pub fn new(flags: Limits, metrics: Metrics) -> Self {
        Self {
            flags,
            common: Arc::new(Quotas::new(&flags, metrics.clone())),
            others: Mutex::default(),
            metrics,
        }
    }

    /// Returns the quota of a client; one without an address has no limit.
    #[must_use]
    pub fn of_client(&self, client: Option<ClientNet>, limits: &Limits) -> CallerQuota {
        CallerQuota::new(self.with_limits(limits), client.map(QuotaKey::Client))
    }

    /// Returns the quota of the principal with this number.
    #[must_use]
    pub fn of_principal(&self, number: u64, limits: &Limits) -> CallerQuota {
        let key = QuotaKey::Principal(number);
        CallerQuota::new(self.with_limits(limits), Some(key))
    }

    /// Returns the quotas of callers with these limits; the flags replace those that are not set.
    fn with_limits(&self, limits: &Limits) -> Arc<Quotas> {
        let effective = limits.or(&self.flags);
        if effective == self.flags {
            return self.common.clone();
        }
        // No code panics while it holds this lock.
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= LIMITS_MAX && !others.contains_key(&effective) {
            others.clear();
        }
        let quotas = others.entry(effective);
        quotas
            .or_insert_with(|| Arc::new(Quotas::new(&effective, self.metrics.clone())))
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
}
