//! Progress on stderr: a bar on a terminal, otherwise a line every few seconds.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::schedule::Interval;
use crate::output::stderr;

const ON_A_TERMINAL: Duration = Duration::from_millis(200);
const IN_LINES: Duration = Duration::from_secs(5);

/// The state of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    pub(crate) elapsed: Duration,
    pub(crate) wanted: u32,
    pub(crate) streaming: u64,
    pub(crate) events: u64,
    pub(crate) wire_bytes: u64,
    /// The measurement has ended, but connections are behind.
    pub(crate) settling: bool,
}

/// Shows the state of a run.
pub(crate) struct Progress {
    interval: Interval,
    bar: Option<ProgressBar>,
    duration: Option<Duration>,
    before: Option<Snapshot>,
}

impl Progress {
    /// Progress of a run of this duration, if it has one. `every` overrides the default period.
    pub(crate) fn new(now: Instant, duration: Option<Duration>, every: Option<Duration>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let interval = Interval::new(
            now,
            every.unwrap_or(if terminal { ON_A_TERMINAL } else { IN_LINES }),
        );
        Self {
            interval,
            bar: terminal.then(|| new_bar(duration)),
            duration,
            before: None,
        }
    }

    /// When the next state is to be shown.
    pub(crate) fn due(&self) -> Instant {
        self.interval.due
    }

    /// Returns `true` once per period.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.interval.is_due(now)
    }

    /// Shows a state, with the rates since the previous one.
    pub(crate) fn show(&mut self, now: &Snapshot) {
        let text = describe(self.before.as_ref(), now);
        self.before = Some(*now);
        match &self.bar {
            Some(bar) => {
                if self.duration.is_some() {
                    bar.set_position(u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX));
                }
                bar.set_message(text);
                bar.tick();
            }
            None => stderr::log_line(text),
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(duration: Option<Duration>) -> ProgressBar {
    let length = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_style(bar_style(length.is_some()))
}

fn bar_style(has_length: bool) -> ProgressStyle {
    let template = if has_length {
        "{elapsed_precise} [{bar:20}] {msg}"
    } else {
        "{elapsed_precise} {spinner} {msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn describe(before: Option<&Snapshot>, now: &Snapshot) -> String {
    let (then, events, bytes) = before.map_or((Duration::ZERO, 0, 0), |before| {
        (before.elapsed, before.events, before.wire_bytes)
    });
    let seconds = now.elapsed.saturating_sub(then).as_secs_f64().max(1e-3);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let settling = if now.settling {
        ", waiting for those behind"
    } else {
        ""
    };
    format!(
        "{} of {} streams, {} events, {:.0}/s, {:.1} MB/s{settling}",
        now.streaming,
        now.wanted,
        now.events,
        rate(now.events, events),
        rate(now.wire_bytes, bytes) / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_previous_state() {
        let at = |seconds, events, wire_bytes| Snapshot {
            elapsed: Duration::from_secs(seconds),
            wanted: 10,
            streaming: 9,
            events,
            wire_bytes,
            settling: seconds > 5,
        };
        assert_eq!(
            describe(None, &at(2, 100, 4_000_000)),
            "9 of 10 streams, 100 events, 50/s, 2.0 MB/s"
        );
        assert_eq!(
            describe(Some(&at(2, 100, 4_000_000)), &at(6, 500, 4_400_000)),
            "9 of 10 streams, 500 events, 100/s, 0.1 MB/s, waiting for those behind"
        );
    }
}
