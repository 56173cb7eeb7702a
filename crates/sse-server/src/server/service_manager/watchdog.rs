//! The watchdog of the service manager, which restarts a server that is stuck.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    ServiceManager,
    progress::{Parts, stuck_parts},
};

/// Checks within the time that the service manager waits. With several of them, a part that is late
/// once costs nothing.
const CHECKS: u32 = 4;

/// Returns how long the service manager waits for a message; `None` if it has no watchdog for this
/// process.
pub(super) fn watchdog_interval() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    parse_interval(
        variable("WATCHDOG_USEC").as_deref(),
        variable("WATCHDOG_PID").as_deref(),
        std::process::id(),
    )
}

/// `expected` is the process that the service manager expects the messages from.
fn parse_interval(micros: Option<&str>, expected: Option<&str>, own: u32) -> Option<Duration> {
    if expected.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// Sends a message per interval, unless a part of the server made no progress in it.
///
/// A stop has a time limit of its own, so the messages continue then.
pub(in crate::server) async fn watch(
    manager: ServiceManager,
    parts: Parts,
    limit: Duration,
    stopping: CancellationToken,
) {
    let mut was_stuck = Vec::new();
    loop {
        let before = parts.counts();
        parts.wake();
        sleep(limit / CHECKS).await;
        let stuck = stuck_parts(&before, &parts.counts());
        if stuck.is_empty() || stopping.is_cancelled() {
            manager.send(&["WATCHDOG=1".to_owned()]);
        } else if stuck != was_stuck {
            tracing::error!(
                parts = stuck.join(", "),
                "a part of the server makes no progress; the service manager restarts the server \
                 if this lasts"
            );
        }
        was_stuck = stuck;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_of_this_process_only() {
        let two = Some(Duration::from_secs(2));
        assert_eq!(parse_interval(Some("2000000"), None, 7), two);
        assert_eq!(parse_interval(Some("2000000"), Some("7"), 7), two);
        for (micros, pid) in [
            (None, None),
            (Some("0"), None),
            (Some("x"), Some("7")),
            (Some("2000000"), Some("8")),
            (Some("2000000"), Some("")),
        ] {
            assert_eq!(parse_interval(micros, pid, 7), None, "{micros:?} {pid:?}");
        }
    }
}
