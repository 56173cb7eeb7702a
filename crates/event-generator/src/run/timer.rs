//! Sleeps until an instant: to the microsecond on Linux, otherwise to the millisecond.
//!
//! The timer of tokio has ticks of one millisecond, which would be part of every latency. On Linux
//! a kernel timer (`timerfd`) wakes the task instead.

use std::{io, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

/// Longest sleep, because a kernel timer cannot hold every duration.
const SLEEP_MAX: Duration = Duration::from_hours(24);

/// Wakes one task.
#[derive(Debug)]
pub(crate) struct Timer(#[cfg(target_os = "linux")] kernel::TimerFd);

impl Timer {
    /// Creates a timer.
    ///
    /// # Errors
    ///
    /// The system has no timer left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(
            #[cfg(target_os = "linux")]
            kernel::TimerFd::new()?,
        ))
    }

    /// Waits for an instant, or for a day. Cancel safe.
    ///
    /// If the instant has passed, this only lets the connections run: a timer would take longer.
    pub(crate) async fn wait(&self, instant: Instant) {
        let now = Instant::now();
        let Some(left) = instant
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
        else {
            yield_now().await;
            return;
        };
        let left = left.min(SLEEP_MAX);
        #[cfg(target_os = "linux")]
        if self.0.wait(left).await.is_ok() {
            return;
        }
        sleep_until(now + left).await;
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    /// A `timerfd`.
    #[derive(Debug)]
    pub(super) struct TimerFd(AsyncFd<OwnedFd>);

    impl TimerFd {
        pub(super) fn new() -> io::Result<Self> {
            let timer = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
            )?;
            #[expect(
                deprecated,
                reason = "its replacement is unsafe, for types whose descriptor may change: this one cannot"
            )]
            AsyncFd::new(timer).map(Self)
        }

        /// Sets the timer, which replaces an earlier setting, and waits for it.
        pub(super) async fn wait(&self, left: Duration) -> io::Result<()> {
            let value = Timespec::try_from(left).map_err(io::Error::other)?;
            let interval = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            timerfd_settime(
                &self.0,
                TimerfdTimerFlags::empty(),
                &Itimerspec {
                    it_interval: interval,
                    it_value: value,
                },
            )?;
            loop {
                let mut ready = self.0.readable().await?;
                let mut expirations = [0; 8];
                // The read fails if the readiness belongs to an earlier setting.
                if let Ok(read) =
                    ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?))
                {
                    return read.map(|_| ());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_timer_wakes_at_the_instant_and_not_before() {
        let timer = Timer::new().unwrap();
        for ms in [1, 0, 20] {
            let instant = Instant::now() + Duration::from_millis(ms);
            timer.wait(instant).await;
            assert!(Instant::now() >= instant);
        }
    }

    #[tokio::test]
    async fn a_cancelled_wait_does_not_wake_the_next_one() {
        let timer = Timer::new().unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(timer.wait(soon).now_or_never().is_none());
        // The first setting expires before this instant.
        let later = Instant::now() + Duration::from_millis(30);
        timer.wait(later).await;
        assert!(Instant::now() >= later);
    }
}
