//! When each of very many streams is due for a heartbeat, without a timer for each: a wheel of buckets that are looked
//! at one after another. A stream that spoke meanwhile is put further ahead only when its bucket comes round.

use std::time::{Duration, Instant};

/// Buckets for one heartbeat interval.
const PARTS: u32 = 64;
/// The heartbeats of streams that fell silent together are spread over this many more.
const SPREAD: u32 = PARTS / 8;
const TICK_MIN: Duration = Duration::from_millis(5);

/// A moment, counted in ticks since the start. It wraps after months, which only needs buckets that do too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tick(u32);

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    started: Instant,
    tick: Duration,
    /// Ticks of silence after which a heartbeat is due.
    silence: u32,
    buckets: Vec<Vec<u32>>,
    /// How many entries there are, stale ones included.
    entries: usize,
    /// The next tick to look at.
    at: u64,
}

impl Wheel {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        let tick = (heartbeat / PARTS).max(TICK_MIN);
        // One more, because a stream may have spoken at the end of its tick.
        let silence =
            u32::try_from(heartbeat.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(PARTS) + 1;
        let buckets = vec![Vec::new(); (silence + SPREAD + 2).next_power_of_two() as usize];
        Self {
            started: now,
            tick,
            silence,
            buckets,
            entries: 0,
            at: 0,
        }
    }

    pub(super) fn tick(&self, now: Instant) -> Tick {
        wrapped(self.ticks(now))
    }

    fn ticks(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.started).as_nanos() / self.tick.as_nanos();
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// When a stream is due that spoke at `last_write`. Those of one moment are spread by their keys.
    fn due(&self, last_write: Tick, key: u32) -> Tick {
        let spread = key.wrapping_mul(0x9E37_79B9) >> 16;
        Tick(last_write.0.wrapping_add(self.silence + spread % SPREAD))
    }

    /// Whether a stream that spoke at `last_write` is due, now that the moment `due` has come that it was filed under.
    pub(super) fn is_due(&self, last_write: Tick, key: u32, due: Tick) -> bool {
        self.due(last_write, key)
            .0
            .wrapping_sub(due.0)
            .cast_signed()
            <= 0
    }

    /// Files a stream that spoke at `last_write` under the moment it is due, and returns that.
    pub(super) fn file(&mut self, key: u32, last_write: Tick, now: Instant) -> Tick {
        if self.entries == 0 {
            // What passed while it was empty need not be looked at.
            self.at = self.ticks(now);
        }
        let at = wrapped(self.at).0;
        // While the wheel is late, a moment may be a whole turn ahead: the last bucket comes before it, and there it
        // is not due yet.
        let ahead = self
            .due(last_write, key)
            .0
            .wrapping_sub(at)
            .min(self.last_bucket());
        let due = Tick(at.wrapping_add(ahead));
        let bucket = self.bucket(due);
        self.buckets[bucket].push(key);
        self.entries += 1;
        due
    }

    /// The next stream whose bucket has come, with its tick: it is due if it was filed under that very tick last.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u32, Tick)> {
        let now = self.ticks(now);
        while self.entries > 0 && self.at <= now {
            let at = wrapped(self.at);
            let bucket = self.bucket(at);
            if let Some(key) = self.buckets[bucket].pop() {
                self.entries -= 1;
                return Some((key, at));
            }
            self.at += 1;
        }
        None
    }

    /// How long nothing is due; none if nothing is filed.
    pub(super) fn time_until_work(&self, now: Instant) -> Option<Duration> {
        let until = self.tick.as_nanos() * u128::from(self.at);
        let passed = now.saturating_duration_since(self.started).as_nanos();
        let rest = u64::try_from(until.saturating_sub(passed)).unwrap_or(u64::MAX);
        (self.entries > 0).then(|| Duration::from_nanos(rest))
    }

    const fn bucket(&self, tick: Tick) -> usize {
        (tick.0 & self.last_bucket()) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are few")]
    const fn last_bucket(&self) -> u32 {
        self.buckets.len() as u32 - 1
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it wraps")]
const fn wrapped(ticks: u64) -> Tick {
    Tick(ticks as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_stream_comes_round_once_it_was_silent_long_enough_and_not_much_later() {
        for heartbeat in [
            Duration::from_secs(15),
            Duration::from_millis(200),
            Duration::from_micros(1),
        ] {
            let start = Instant::now();
            let mut wheel = Wheel::new(heartbeat, start);
            let mut filed = Vec::new();
            for key in 0..1000 {
                filed.push(wheel.file(key, Tick::default(), start));
            }
            let (mut now, mut seen, mut moments) = (start, 0, Vec::new());
            while seen < 1000 {
                now += wheel
                    .time_until_work(now)
                    .expect("streams are filed")
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
    fn an_empty_wheel_does_not_have_to_be_turned_for_all_the_time_it_was_empty() {
        let start = Instant::now();
        let mut wheel = Wheel::new(Duration::from_secs(15), start);
        let later = start + Duration::from_hours(100);
        let due = wheel.file(7, wheel.tick(later), later);
        assert_eq!(wheel.pop(later), None);
        assert!(
            wheel
                .time_until_work(later)
                .is_some_and(|rest| rest <= Duration::from_secs(1))
        );
        assert_eq!(wheel.pop(later + Duration::from_secs(20)), Some((7, due)));
    }

    #[test]
    fn nobody_is_forgotten_by_a_wheel_that_is_late() {
        let (heartbeat, start) = (Duration::from_millis(100), Instant::now());
        for late in (0..1000).map(Duration::from_millis) {
            let mut wheel = Wheel::new(heartbeat, start);
            wheel.file(0, Tick::default(), start);
            let mut now = start + late;
            let (last_write, mut filed) = (wheel.tick(now), HashMap::new());
            for key in 1..50 {
                filed.insert(key, wheel.file(key, last_write, now));
            }
            while !filed.is_empty() {
                while let Some((key, due)) = wheel.pop(now) {
                    if key != 0 && wheel.is_due(last_write, key, due) {
                        assert_eq!(filed.remove(&key), Some(due), "after {late:?}");
                        assert!(now - start >= late + heartbeat);
                    } else if key != 0 {
                        assert_eq!(
                            filed.insert(key, wheel.file(key, last_write, now)),
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
