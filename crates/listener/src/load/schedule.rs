//! When what is to be done. Pure: time is a parameter.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Spreads the first connects over a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp {
    start: Instant,
    connections: u32,
    over: Duration,
}

impl Ramp {
    /// Beginning at `start`; none at all means all at once.
    pub(crate) fn new(start: Instant, connections: u32, over: Option<Duration>) -> Self {
        Self {
            start,
            connections,
            over: over.unwrap_or_default(),
        }
    }

    /// When a connection, counted from 0, may be made.
    pub(crate) fn due(&self, connection: u32) -> Instant {
        let share = f64::from(connection) / f64::from(self.connections.max(1));
        self.start + self.over.mul_f64(share.min(1.0))
    }
}

/// Cuts a share of the streams again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    /// When the next are due.
    pub(crate) due: Instant,
    every: Duration,
    share: f64,
}

impl Cuts {
    /// First at one period after `start`.
    pub(crate) fn new(start: Instant, every: Duration, share: f64) -> Self {
        Self {
            due: start + every,
            every,
            share,
        }
    }

    /// How many of so many streams to cut now; at least one of any. The next cuts are due a period later, or, after a
    /// stall, a period after now.
    pub(crate) fn take(&mut self, now: Instant, streams: usize) -> usize {
        self.due = (self.due + self.every).max(now);
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
    reason = "within count"
)]
fn share_of(count: usize, share: f64) -> usize {
    ((count as f64 * share).round() as usize).min(count)
}

/// Connections that wait to be made, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BinaryHeap<Reverse<(Instant, u32)>>);

impl Waiting {
    /// A connection is to be made at `due`.
    pub(crate) fn add(&mut self, due: Instant, connection: u32) {
        self.0.push(Reverse((due, connection)));
    }

    /// When the next is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// One that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.next_due().filter(|due| *due <= now)?;
        self.0.pop().map(|Reverse((_, connection))| connection)
    }
}

/// Something that comes round again and again, without catching up after a stall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Every {
    /// When it is due.
    pub(crate) due: Instant,
    period: Duration,
}

impl Every {
    /// First at one period after `start`.
    pub(crate) fn new(start: Instant, period: Duration) -> Self {
        Self {
            due: start + period,
            period,
        }
    }

    /// Whether it is due; then it is due again a period later.
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
        let mut cuts = Cuts::new(start, SECOND, 0.1);
        assert_eq!(cuts.due, start + SECOND);
        assert_eq!(
            [1000, 4, 0].map(|streams| cuts.take(start + SECOND, streams)),
            [100, 1, 0]
        );
        assert_eq!(cuts.due, start + 4 * SECOND);
        cuts.take(start + 60 * SECOND, 1);
        assert_eq!(cuts.due, start + 60 * SECOND, "no burst after a stall");
        assert_eq!(Cuts::new(start, SECOND, 1.0).take(start, 7), 7);
    }

    #[test]
    fn who_waits_comes_in_order_and_not_before_it_is_time() {
        let (start, mut waiting) = (Instant::now(), Waiting::default());
        for (seconds, connection) in [(3, 7), (1, 8), (2, 9)] {
            waiting.add(start + seconds * SECOND, connection);
        }
        assert_eq!(waiting.pop_due(start), None);
        let popped: Vec<_> = std::iter::from_fn(|| waiting.pop_due(start + 2 * SECOND)).collect();
        assert_eq!(
            (popped, waiting.next_due()),
            (vec![8, 9], Some(start + 3 * SECOND))
        );
    }

    #[test]
    fn what_comes_round_does_not_catch_up() {
        let start = Instant::now();
        let mut every = Every::new(start, SECOND);
        assert_eq!(
            [0, 1, 1, 5, 5].map(|seconds| every.is_due(start + seconds * SECOND)),
            [false, true, false, true, false]
        );
    }
}
