//! Heartbeat wheel: when each of very many streams is due for a heartbeat, without a timer per
//! stream.
//!
//! The wheel is a ring of buckets, one per tick. A stream is inserted in the bucket of the tick at
//! which its heartbeat is due. An event that is sent in the meantime does not move the entry.
//! Instead, the reactor checks the time of the last write when the bucket's tick has come, and
//! inserts the stream again further ahead:
//!
//! ```text
//! bucket    0    1    2    3    4    5    6  ...
//!                     ▲         │
//!                  position     stream 7, inserted after a write at tick 0
//!
//! Stream 7 writes again at tick 3. At tick 4 the stream is not due, so it moves to tick 3 + 4 = 7.
//! ```
//!
//! So a delivery costs the wheel nothing, and a heartbeat costs one entry per interval.

use std::time::{Duration, Instant};

/// Buckets per heartbeat interval.
const BUCKETS_PER_INTERVAL: u32 = 64;
/// Buckets over which the heartbeats of streams with the same last write are spread.
const SPREAD_BUCKETS: u32 = BUCKETS_PER_INTERVAL / 8;
const TICK_MIN: Duration = Duration::from_millis(5);

/// A time, in ticks since the start of the wheel.
///
/// The count wraps after months. Buckets are chosen by the low bits, so wrapping does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tick(u32);

/// The wheel of one fan-out thread. Streams are named by their keys.
#[derive(Debug)]
pub(super) struct Wheel {
    started: Instant,
    tick: Duration,
    /// Ticks without a write after which a heartbeat is due.
    interval_ticks: u32,
    /// A power of two of buckets.
    buckets: Vec<Vec<u32>>,
    /// Number of entries, including those of closed streams.
    entries: usize,
    /// Tick of the bucket that is next to be emptied.
    position: u64,
}

impl Wheel {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        let tick = (heartbeat / BUCKETS_PER_INTERVAL).max(TICK_MIN);
        let ticks = heartbeat.as_nanos().div_ceil(tick.as_nanos());
        // One tick more, because the last write may have been at the end of its tick.
        let interval_ticks = u32::try_from(ticks).unwrap_or(BUCKETS_PER_INTERVAL) + 1;
        let buckets = (interval_ticks + SPREAD_BUCKETS + 2).next_power_of_two();
        Self {
            started: now,
            tick,
            interval_ticks,
            buckets: vec![Vec::new(); buckets as usize],
            entries: 0,
            position: 0,
        }
    }

    pub(super) fn tick(&self, now: Instant) -> Tick {
        wrap(self.ticks_since_start(now))
    }

    fn ticks_since_start(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.started).as_nanos() / self.tick.as_nanos();
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Returns when a stream is due. Streams with the same last write are spread by their keys.
    fn due_tick(&self, last_write: Tick, key: u32) -> Tick {
        let spread = key.wrapping_mul(0x9E37_79B9) >> 16;
        let ticks = self.interval_ticks + spread % SPREAD_BUCKETS;
        Tick(last_write.0.wrapping_add(ticks))
    }

    /// Returns whether a stream is due at `tick`, the tick of the entry that was popped.
    pub(super) fn is_due(&self, last_write: Tick, key: u32, tick: Tick) -> bool {
        let due = self.due_tick(last_write, key);
        due.0.wrapping_sub(tick.0).cast_signed() <= 0
    }

    /// Inserts a stream that was last written to at `last_write`. Returns the tick of its entry.
    pub(super) fn insert(&mut self, key: u32, last_write: Tick, now: Instant) -> Tick {
        if self.entries == 0 {
            // Skip the ticks that have passed while the wheel was empty.
            self.position = self.ticks_since_start(now);
        }
        let position = wrap(self.position).0;
        // While the wheel is late, the stream may be due more than one turn ahead. Then it goes in
        // the last bucket, and is not due yet when that bucket's tick has come.
        let due = self.due_tick(last_write, key);
        let ahead = due.0.wrapping_sub(position).min(self.bucket_mask());
        let due = Tick(position.wrapping_add(ahead));
        let bucket = self.bucket_index(due);
        self.buckets[bucket].push(key);
        self.entries += 1;
        due
    }

    /// Returns the next stream whose tick has come, and the tick of its entry.
    ///
    /// The entry is valid if [`insert`](Self::insert) returned this tick when the stream was last
    /// inserted. Otherwise it belongs to a closed stream that had the same key.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u32, Tick)> {
        let now = self.ticks_since_start(now);
        while self.entries > 0 && self.position <= now {
            let tick = wrap(self.position);
            let bucket = self.bucket_index(tick);
            if let Some(key) = self.buckets[bucket].pop() {
                self.entries -= 1;
                return Some((key, tick));
            }
            self.position += 1;
        }
        None
    }

    /// Returns how long no entry is due; `None` if there is no entry.
    pub(super) fn time_until_work(&self, now: Instant) -> Option<Duration> {
        let until = self.tick.as_nanos() * u128::from(self.position);
        let passed = now.saturating_duration_since(self.started).as_nanos();
        let rest = u64::try_from(until.saturating_sub(passed)).unwrap_or(u64::MAX);
        (self.entries > 0).then(|| Duration::from_nanos(rest))
    }

    const fn bucket_index(&self, tick: Tick) -> usize {
        (tick.0 & self.bucket_mask()) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "the wheel has few buckets")]
    const fn bucket_mask(&self) -> u32 {
        self.buckets.len() as u32 - 1
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
const fn wrap(ticks: u64) -> Tick {
    Tick(ticks as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_stream_is_due_after_the_interval_and_not_much_later() {
        for heartbeat in [
            Duration::from_secs(15),
            Duration::from_millis(200),
            Duration::from_micros(1),
        ] {
            let start = Instant::now();
            let mut wheel = Wheel::new(heartbeat, start);
            let mut filed = Vec::new();
            for key in 0..1000 {
                filed.push(wheel.insert(key, Tick::default(), start));
            }
            let (mut now, mut seen, mut moments) = (start, 0, Vec::new());
            while seen < 1000 {
                now += wheel
                    .time_until_work(now)
                    .expect("streams are inserted")
                    .max(Duration::from_micros(100));
                while let Some((key, tick)) = wheel.pop(now) {
                    assert_eq!(filed[key as usize], tick);
                    let silent = now - start;
                    assert!(silent >= heartbeat, "after {silent:?}");
                    assert!(
                        silent <= heartbeat * 5 / 4 + TICK_MIN * 12,
                        "after {silent:?}"
                    );
                    seen += 1;
                    moments.push(silent);
                }
            }
            moments.dedup();
            assert!(moments.len() > 4, "all at once: {moments:?}");
            assert_eq!(wheel.time_until_work(now), None);
        }
    }

    #[test]
    fn an_empty_wheel_skips_the_ticks_that_have_passed() {
        let start = Instant::now();
        let mut wheel = Wheel::new(Duration::from_secs(15), start);
        let later = start + Duration::from_hours(100);
        let due = wheel.insert(7, wheel.tick(later), later);
        assert_eq!(wheel.pop(later), None);
        assert!(
            wheel
                .time_until_work(later)
                .is_some_and(|rest| rest <= Duration::from_secs(1))
        );
        assert_eq!(wheel.pop(later + Duration::from_secs(20)), Some((7, due)));
    }

    #[test]
    fn a_late_wheel_loses_no_stream() {
        let (heartbeat, start) = (Duration::from_millis(100), Instant::now());
        for late in (0..1000).map(Duration::from_millis) {
            let mut wheel = Wheel::new(heartbeat, start);
            wheel.insert(0, Tick::default(), start);
            let mut now = start + late;
            let (last_write, mut filed) = (wheel.tick(now), HashMap::new());
            for key in 1..50 {
                filed.insert(key, wheel.insert(key, last_write, now));
            }
            while !filed.is_empty() {
                while let Some((key, due)) = wheel.pop(now) {
                    if key != 0 && wheel.is_due(last_write, key, due) {
                        assert_eq!(filed.remove(&key), Some(due), "after {late:?}");
                        assert!(now - start >= late + heartbeat);
                    } else if key != 0 {
                        assert_eq!(
                            filed.insert(key, wheel.insert(key, last_write, now)),
                            Some(due),
                            "after {late:?}"
                        );
                    }
                }
                now += Duration::from_millis(1);
                assert!(
                    now - start < late + heartbeat * 3,
                    "{filed:?} are left after {late:?}"
                );
            }
        }
    }
}
