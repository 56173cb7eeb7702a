//! The rate of each key: a bucket that fills steadily, and out of which requests take.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
};

use super::{
    QuotaKey, Rate, Remedy,
    bounded_store::{BoundedStore, KEYS_MAX},
};

/// Shortest time between two searches for keys to forget, each of which visits all keys.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);
/// Units of bytes per second at most. The time per unit is in whole nanoseconds, so it is exact to
/// a thousandth then.
const UNITS_PER_SECOND_MAX: u64 = 1_000_000;

/// The buckets of one limit.
#[derive(Debug)]
pub(super) struct RateTable<C: Clock = DefaultClock> {
    limiter: RateLimiter<QuotaKey, BoundedStore, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    /// Size of a unit: the table counts a large amount of bytes in larger units.
    unit: u64,
    /// Units in a full bucket.
    burst: NonZeroU32,
    rate: Rate,
    keys_max: usize,
    cleaned: Mutex<Option<Instant>>,
}

impl RateTable {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_clock(rate, KEYS_MAX, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RateTable<C> {
    fn with_clock(rate: Rate, keys_max: usize, clock: C) -> Self {
        let amount = rate.amount().get();
        let units_max = UNITS_PER_SECOND_MAX.saturating_mul(rate.period().as_secs());
        let unit = if rate.is_count() {
            1
        } else {
            amount.div_ceil(units_max.clamp(1, u64::from(u32::MAX)))
        };
        let burst = u32::try_from(amount.div_ceil(unit)).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let interval = rate.period() / burst.get();
        let quota = Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(burst));
        Self {
            limiter: RateLimiter::new(
                quota.allow_burst(burst),
                BoundedStore::new(keys_max),
                clock.clone(),
            ),
            clock,
            unit,
            burst,
            rate,
            keys_max,
            cleaned: Mutex::default(),
        }
    }

    /// The rate of each key.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes an amount out of the bucket of a key.
    ///
    /// # Errors
    ///
    /// What would help. Nothing was taken.
    pub(super) fn take(&self, key: &QuotaKey, amount: u64) -> Result<(), Remedy> {
        let too_much = Remedy::AtMost(self.rate.amount().get());
        if amount > self.rate.amount().get() {
            return Err(too_much);
        }
        let units = u32::try_from(amount.div_ceil(self.unit)).map_err(|_| too_much)?;
        let Some(units) = NonZeroU32::new(units.min(self.burst.get())) else {
            return Ok(());
        };
        self.forget_full_buckets();
        match self.limiter.check_key_n(key, units) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Remedy::WaitFor(until.wait_time_from(self.clock.now()))),
            Err(_) => Err(too_much),
        }
    }

    /// Forgets keys whose buckets are full again, if there is no room for new ones.
    fn forget_full_buckets(&self) {
        if self.limiter.len() < self.keys_max {
            return;
        }
        let now = Instant::now();
        let mut cleaned = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CLEANUP_INTERVAL;
        if !cleaned.is_some_and(is_recent) {
            *cleaned = Some(now);
            self.limiter.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests;
