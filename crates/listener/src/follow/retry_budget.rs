//! Limit of failed attempts in a row. Pure.

/// Number of failed attempts in a row that are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryBudget {
    retries_max: Option<u64>,
    failures: u64,
}

impl RetryBudget {
    /// Allows `retries_max` attempts after the first failed one; `None` allows any number.
    #[must_use]
    pub const fn new(retries_max: Option<u64>) -> Self {
        Self {
            retries_max,
            failures: 0,
        }
    }

    /// Counts a failed attempt. Returns `true` if the budget is used up.
    pub fn record_failure(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.retries_max
            .is_some_and(|retries_max| self.failures > retries_max)
    }

    /// Number of failed attempts in a row.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Resets the count after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_one_attempt_and_its_retries() {
        fn failed<const N: usize>(retry_budget: &mut RetryBudget) -> [bool; N] {
            std::array::from_fn(|_| retry_budget.record_failure())
        }
        assert_eq!(failed(&mut RetryBudget::new(Some(0))), [true]);
        let mut retry_budget = RetryBudget::new(Some(2));
        assert_eq!(failed(&mut retry_budget), [false, false, true]);
        assert_eq!(retry_budget.failures(), 3);
        retry_budget.reset();
        assert_eq!(failed(&mut retry_budget), [false, false, true]);
        assert_eq!(failed(&mut RetryBudget::new(None)), [false; 100]);
        let mut endless = RetryBudget {
            retries_max: Some(u64::MAX),
            failures: u64::MAX,
        };
        assert!(!endless.record_failure());
    }
}
