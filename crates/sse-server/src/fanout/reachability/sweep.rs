//! The thread that sweeps.

use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

use super::{kernel, suspects::Suspects};
use crate::{
    fanout::{
        attached_sockets::AttachedSockets, socket::SocketCookie, stall::user_timeout,
        thread::Fanout,
    },
    supervised::supervised,
};

/// Longest pause between two sweeps. Two pauses and the time until data are sent again are less
/// than the minute that is documented.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(25);
/// Shortest pause, as a multiple of the sweep before it: the thread takes at most 0.2 % of a core,
/// unless a sweep takes longer than 50 ms.
pub(super) const PAUSE_FACTOR: u32 = 500;
/// Pause that is enough for the documented time, whatever the write timeout is.
const USUAL_PAUSE: Duration = Duration::from_secs(15);
/// Pause with a very short write timeout.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What closes the streams of unreachable clients.
#[derive(Debug, Clone)]
pub struct SweepTargets {
    /// Threads that own the sockets of streams; `None` if every stream stays attached.
    pub fanout: Option<Fanout>,
    /// Sockets that actix owns.
    pub attached: AttachedSockets,
}

impl SweepTargets {
    fn close_unreachable(&self, cookies: HashSet<SocketCookie>) {
        self.attached.close_unreachable(&cookies);
        if let Some(fanout) = &self.fanout {
            fanout.close_unreachable(&Arc::new(cookies));
        }
    }
}

/// A thread that sweeps until this is dropped.
#[derive(Debug)]
pub struct Sweeper {
    _stop: Sender<Infallible>,
}

impl Sweeper {
    /// Starts to sweep the connections that were accepted on `listeners`.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn start(
        listeners: Vec<SocketAddr>,
        write_timeout: Duration,
        targets: SweepTargets,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let sweeps = Sweeps {
            listeners,
            suspects: Suspects::new(write_timeout),
            usual_pause: (write_timeout / 4).clamp(PAUSE_MIN, USUAL_PAUSE),
            user_timeout: user_timeout(write_timeout),
            targets,
            failure_log: LogThrottle::once(),
        };
        std::thread::Builder::new()
            .name("reachability".to_owned())
            .spawn(move || {
                supervised("the search for unreachable clients", || {
                    sweeps.run(&stopped);
                });
            })?;
        Ok(Self { _stop: stop })
    }
}

/// State of the thread.
struct Sweeps {
    listeners: Vec<SocketAddr>,
    suspects: Suspects,
    usual_pause: Duration,
    user_timeout: Duration,
    targets: SweepTargets,
    failure_log: LogThrottle,
}

impl Sweeps {
    /// Sweeps until the sender of `stopped` is dropped.
    fn run(mut self, stopped: &Receiver<Infallible>) {
        loop {
            let start = Instant::now();
            self.sweep(start);
            let pause = pause_after(start.elapsed(), self.usual_pause);
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut sweep = self.suspects.start_sweep(now);
        let outcome = self.listeners.iter().try_for_each(|listener| {
            kernel::visit_connections(*listener, |cookie, state| sweep.observe(cookie, state))
        });
        // Connections that were judged before a failure are judged all the same.
        let unreachable = sweep.finish();
        if !unreachable.is_empty() {
            self.targets.close_unreachable(unreachable);
        }
        if let Err(error) = outcome {
            self.log_failure(&error, now);
        }
    }

    fn log_failure(&mut self, error: &io::Error, now: Instant) {
        if self.failure_log.record(now).is_some() {
            tracing::warn!(
                %error,
                closed_after = ?self.user_timeout,
                "the kernel does not report the state of connections; a client that vanished is \
                 closed later"
            );
        }
    }
}

/// Returns the pause after a sweep that took `took`.
fn pause_after(took: Duration, usual_pause: Duration) -> Duration {
    took.saturating_mul(PAUSE_FACTOR)
        .clamp(usual_pause, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sweep_is_followed_by_a_longer_pause_up_to_a_limit() {
        let pause = |millis| pause_after(Duration::from_millis(millis), USUAL_PAUSE);
        assert_eq!(pause(0), USUAL_PAUSE);
        assert_eq!(pause(40), Duration::from_secs(20));
        assert_eq!(pause(1000), PAUSE_MAX);
    }
}
