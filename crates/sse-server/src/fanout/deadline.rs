//! When a stream must end, in four bytes, because every stream has a deadline.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Resolution of a deadline. The count lasts for more than a year.
const TICK: Duration = Duration::from_millis(10);

/// About when the process started.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment in the life of the process, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline(u32);

impl Deadline {
    pub(super) const NEVER: Self = Self(u32::MAX);

    /// The first tick that is not before `at`.
    pub(super) fn at(at: Instant) -> Self {
        let since = at.saturating_duration_since(*EPOCH).as_nanos();
        let ticks = u32::try_from(since.div_ceil(TICK.as_nanos()));
        Self(ticks.unwrap_or(u32::MAX))
    }

    /// Returns the moment; `None` if it never comes.
    pub(super) fn instant(self) -> Option<Instant> {
        (self != Self::NEVER).then(|| *EPOCH + TICK * self.0)
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.instant().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_over_at_its_moment_and_at_most_a_tick_later() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let deadline = Deadline::at(after(1234));
        assert!(!deadline.is_over(after(1233)));
        assert!(deadline.is_over(after(1234) + TICK));
        assert!(Deadline::at(now) < deadline && deadline < Deadline::NEVER);
    }

    #[test]
    fn never_is_never_over() {
        let far = Instant::now() + Duration::from_hours(100 * 366 * 24);
        assert_eq!(Deadline::at(far), Deadline::NEVER);
        assert!(!Deadline::NEVER.is_over(far) && Deadline::NEVER.instant().is_none());
    }
}
