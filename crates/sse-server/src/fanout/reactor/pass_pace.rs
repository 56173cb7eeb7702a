//! Pace of passes: how long a view waits after a pass. A pure policy; the caller reads the clock.
//!
//! The pause after a pass grows with the cost of the pass, so a small channel is delivered almost at
//! once, and a large one collects events for up to `--coalesce`:
//!
//! ```text
//! pass    20 µs, pause  60 µs     5 streams: the passes of one view take up to a quarter of the thread
//! pass   500 µs, pause 1.5 ms   100 streams
//! pass     5 ms, pause   5 ms  1000 streams: the pause is `--coalesce`
//! ```
//!
//! If the passes of all views together take more than a quarter, all pauses are stretched by the same
//! factor until they do not. So the pause of a view depends on its own cost alone until the thread is
//! busy. Passes whose pause is the maximum cannot be slowed down further. They do not count, because
//! otherwise one large channel would delay all small ones for nothing.

use std::time::{Duration, Instant};

/// Part of the thread's time that passes may take, as a divisor.
const SHARE: u32 = 4;
/// Shortest time over which the load is measured.
const WINDOW: Duration = Duration::from_millis(20);
/// The stretch at most doubles per window, and falls to no less than this part of it. It falls slowly,
/// because passes whose pause reaches the maximum stop counting, and would otherwise count again in
/// every second window.
const DECAY: f64 = 0.9;
/// Largest stretch. It limits how long the pauses need to become short again.
const STRETCH_MAX: f64 = 1024.0;

/// The pace of all views of one thread.
#[derive(Debug)]
pub(super) struct PassPace {
    pause_max: Duration,
    /// Factor of all pauses, from 1 on.
    stretch: f64,
    window_start: Instant,
    /// Time of the passes in the window whose pause is not the maximum.
    busy: Duration,
}

impl PassPace {
    /// Pauses are at most `pause_max`.
    pub(super) const fn new(pause_max: Duration, now: Instant) -> Self {
        Self {
            pause_max,
            stretch: 1.0,
            window_start: now,
            busy: Duration::ZERO,
        }
    }

    /// Records a pass that ended at `now` and took `cost`. Returns the pause after it.
    pub(super) fn record_pass(&mut self, cost: Duration, now: Instant) -> Duration {
        let pause = (cost * (SHARE - 1)).mul_f64(self.stretch);
        if pause < self.pause_max {
            self.busy += cost;
        }
        self.adjust_stretch(now);
        pause.min(self.pause_max)
    }

    /// Adjusts the stretch at the end of a window.
    fn adjust_stretch(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window_start);
        if elapsed < WINDOW {
            return;
        }
        let load = self.busy.as_secs_f64() / elapsed.as_secs_f64();
        let windows = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
        let factor = (load * f64::from(SHARE)).clamp(DECAY.powf(windows), 2.0);
        self.stretch = (self.stretch * factor).clamp(1.0, STRETCH_MAX);
        self.window_start = now;
        self.busy = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_MAX: Duration = Duration::from_millis(5);

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// What a view did in the second half of a simulation.
    #[derive(Debug, Default, Clone, Copy)]
    struct Observed {
        passes: u32,
        busy: Duration,
        /// Sum of the pauses.
        paused: Duration,
    }

    /// Simulates a thread for four seconds. Each view has a pass of its cost whenever it may.
    fn simulate(costs: &[Duration]) -> Vec<Observed> {
        let start = Instant::now();
        let (middle, end) = (start + micros(2_000_000), start + micros(4_000_000));
        let mut pace = PassPace::new(PAUSE_MAX, start);
        let mut due = vec![start; costs.len()];
        let mut observed = vec![Observed::default(); costs.len()];
        let mut now = start;
        while now < end {
            let next = (0..due.len()).min_by_key(|view| due[*view]).unwrap();
            now = now.max(due[next]) + costs[next];
            let pause = pace.record_pass(costs[next], now);
            due[next] = now + pause;
            if now >= middle {
                observed[next].passes += 1;
                observed[next].busy += costs[next];
                observed[next].paused += pause;
            }
        }
        observed
    }

    fn load(observed: &[Observed]) -> f64 {
        let busy: Duration = observed.iter().map(|view| view.busy).sum();
        busy.as_secs_f64() / 2.0
    }

    fn pause(observed: &Observed) -> Duration {
        observed.paused / observed.passes
    }

    #[test]
    fn one_view_takes_a_quarter_of_the_thread_at_most() {
        for cost in [5, 20, 100, 500, 1600].map(micros) {
            let observed = simulate(&[cost]);
            let pause = pause(&observed[0]);
            assert!(load(&observed) < 0.27, "{cost:?}: {observed:?}");
            assert!(
                pause >= cost * 3 && pause <= cost * 4,
                "{cost:?}: {pause:?}"
            );
        }
    }

    #[test]
    fn the_pause_is_never_longer_than_the_setting() {
        let observed = simulate(&[micros(8000)]);
        assert_eq!(pause(&observed[0]), PAUSE_MAX);
        let mut pace = PassPace::new(Duration::ZERO, Instant::now());
        assert_eq!(
            pace.record_pass(micros(900), Instant::now()),
            Duration::ZERO
        );
    }

    #[test]
    fn all_views_together_take_a_quarter_of_the_thread() {
        for views in [2, 5, 20, 60] {
            let observed = simulate(&vec![micros(20); views]);
            assert!(load(&observed) < 0.3, "{views}: {}", load(&observed));
            assert!(load(&observed) > 0.15, "{views}: {}", load(&observed));
        }
    }

    #[test]
    fn beyond_that_every_view_waits_for_the_setting() {
        let observed = simulate(&vec![micros(20); 100]);
        for view in &observed {
            assert!(pause(view) > PAUSE_MAX.mul_f64(0.8), "{view:?}");
        }
    }

    #[test]
    fn a_large_channel_does_not_delay_small_ones() {
        for large in [300, 1500, 8000].map(micros) {
            let observed = simulate(&[micros(20), large]);
            let pause = pause(&observed[0]);
            assert!(pause < micros(200), "{large:?}: {pause:?}");
        }
    }

    #[test]
    fn pauses_become_short_again_when_the_load_ends() {
        let start = Instant::now();
        let mut pace = PassPace::new(PAUSE_MAX, start);
        let mut now = start;
        for _ in 0..50_000 {
            now += micros(20);
            pace.record_pass(micros(20), now);
        }
        assert_eq!(pace.record_pass(micros(20), now), PAUSE_MAX);
        // One event per second: the thread has nothing to do.
        now += micros(3_000_000);
        pace.record_pass(micros(20), now);
        assert_eq!(pace.record_pass(micros(20), now), micros(60));
    }
}
