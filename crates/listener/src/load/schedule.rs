//! Times at which something is due. Pure: time is a parameter.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Spreads the first connects evenly over a period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp {
    start: Instant,
    connections: u32,
    period: Duration,
}

impl Ramp {
    /// Without a period, all connections are due at once.
    pub(crate) fn new(start: Instant, connections: u32, period: Option<Duration>) -> Self {
        Self {
            start,
            connections,
            period: period.unwrap_or_default(),
        }
    }

    /// When a connection, counted from 0, may be made.
    pub(crate) fn due(&self, connection: u32) -> Instant {
        let share = f64::from(connection) / f64::from(self.connections.max(1));
        self.start + self.period.mul_f64(share.min(1.0))
    }
}

/// Cuts a share of the streams in each period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CutSchedule {
    /// When the next cuts are due.
    pub(crate) due: Instant,
    period: Duration,
    share: f64,
}

impl CutSchedule {
    /// The first cuts are due one period after `start`.
    pub(crate) fn new(start: Instant, period: Duration, share: f64) -> Self {
        Self {
            due: start + period,
            period,
            share,
        }
    }

    /// The number of `streams` to cut now: the share, but at least one if there are any.
    ///
    /// The next cuts are due one period after these. After a stall, missed cuts are not made up.
    pub(crate) fn next_count(&mut self, now: Instant, streams: usize) -> usize {
        self.due = (self.due + self.period).max(now);
        if streams == 0 {
            0
        } else {
            share_of(streams, self.share).max(1)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the result is at most `count`"
)]
fn share_of(count: usize, share: f64) -> usize {
    ((count as f64 * share).round() as usize).min(count)
}

/// Connections that wait to be made again, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct ReconnectQueue(BinaryHeap<Reverse<(Instant, u32)>>);

impl ReconnectQueue {
    pub(crate) fn push(&mut self, due: Instant, connection: u32) {
        self.0.push(Reverse((due, connection)));
    }

    /// When the next connection is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// Removes the earliest connection if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.next_due().filter(|due| *due <= now)?;
        self.0.pop().map(|Reverse((_, connection))| connection)
    }
}

/// Something that is due once per period. After a stall, missed times are not made up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// When it is due.
    pub(crate) due: Instant,
    period: Duration,
}

impl Interval {
    /// The first time is due one period after `start`.
    pub(crate) fn new(start: Instant, period: Duration) -> Self {
        Self {
            due: start + period,
            period,
        }
    }

    /// Returns `true` if it is due; then it is due again one period after `now`.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now + self.period;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ramp_spreads_evenly_from_the_start() {
        let start = Instant::now();
        let ramp = Ramp::new(start, 4, Some(8 * SECOND));
        assert_eq!(
            [0, 1, 3].map(|nth| ramp.due(nth) - start),
            [Duration::ZERO, 2 * SECOND, 6 * SECOND]
        );
        assert_eq!(Ramp::new(start, 4, None).due(3), start);
    }

    #[test]
    fn cuts_take_their_share_and_at_least_one() {
        let start = Instant::now();
        let mut cuts = CutSchedule::new(start, SECOND, 0.1);
        assert_eq!(cuts.due, start + SECOND);
        assert_eq!(
            [1000, 4, 0].map(|streams| cuts.next_count(start + SECOND, streams)),
            [100, 1, 0]
        );
        assert_eq!(cuts.due, start + 4 * SECOND);
        cuts.next_count(start + 60 * SECOND, 1);
        assert_eq!(cuts.due, start + 60 * SECOND, "no burst after a stall");
        assert_eq!(CutSchedule::new(start, SECOND, 1.0).next_count(start, 7), 7);
    }

    #[test]
    fn reconnects_are_due_in_order_and_never_early() {
        let (start, mut waiting) = (Instant::now(), ReconnectQueue::default());
        for (seconds, connection) in [(3, 7), (1, 8), (2, 9)] {
            waiting.push(start + seconds * SECOND, connection);
        }
        assert_eq!(waiting.pop_due(start), None);
        let popped: Vec<_> = std::iter::from_fn(|| waiting.pop_due(start + 2 * SECOND)).collect();
        assert_eq!(
            (popped, waiting.next_due()),
            (vec![8, 9], Some(start + 3 * SECOND))
        );
    }

    #[test]
    fn an_interval_does_not_make_up_for_missed_times() {
        let start = Instant::now();
        let mut every = Interval::new(start, SECOND);
        assert_eq!(
            [0, 1, 1, 5, 5].map(|seconds| every.is_due(start + seconds * SECOND)),
            [false, true, false, true, false]
        );
    }
}
