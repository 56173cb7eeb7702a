//! The time. Ids of events contain it, and retention by age, tokens and certificates depend on it.

use std::time::{Duration, SystemTime};

use super::report::Report;
use crate::config::{BrokerKind, Config};

const AREA: &str = "clock";
/// 1 January 2026. The program is younger than that.
const EARLIEST_S: u64 = 1_767_225_600;
/// Steps of this size are usual, and do no harm.
const TOLERANCE: Duration = Duration::from_secs(5);

pub(super) fn check(config: &Config, report: &mut Report) {
    let now = SystemTime::now();
    let earliest = SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST_S);
    if now < earliest {
        report.fail(
            AREA,
            "the clock of this machine is years behind: ids of events contain the time, and no \
             certificate and no token is valid; synchronise the clock first",
        );
        return;
    }
    if let BrokerKind::Directory { path, .. } = &config.broker.kind {
        let changed = std::fs::metadata(path.join("events.redb")).and_then(|file| file.modified());
        if let Ok(changed) = changed
            && is_later(changed, now)
        {
            report.warn(
                AREA,
                "the log was written at a time that is still to come, so the clock has gone back: \
                 new events continue at the log's time, and events are kept for longer",
            );
            return;
        }
    }
    report.ok(AREA, "the clock is plausible");
}

fn is_later(time: SystemTime, now: SystemTime) -> bool {
    time.duration_since(now)
        .is_ok_and(|ahead| ahead > TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_step_is_no_trouble() {
        let now = SystemTime::now();
        assert!(!is_later(now + TOLERANCE, now));
        assert!(!is_later(now - TOLERANCE, now));
        assert!(is_later(now + TOLERANCE * 2, now));
    }
}
