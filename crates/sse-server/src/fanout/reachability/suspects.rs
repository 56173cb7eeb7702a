//! The clients that did not answer when the last sweeps asked about them.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::verdict::{Suspicion, TcpState, Verdict, judge};
use crate::fanout::socket::SocketCookie;

/// The suspicions of the last sweeps. There are at most as many as there are connections.
#[derive(Debug)]
pub(super) struct Suspects {
    write_timeout: Duration,
    suspicions: HashMap<SocketCookie, (Suspicion, SweepNumber)>,
    sweep: SweepNumber,
}

type SweepNumber = u64;

impl Suspects {
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self {
            write_timeout,
            suspicions: HashMap::new(),
            sweep: 0,
        }
    }

    /// Starts a sweep at `now`.
    pub(super) fn start_sweep(&mut self, now: Instant) -> Sweep<'_> {
        self.sweep += 1;
        Sweep {
            suspects: self,
            now,
            unreachable: HashSet::new(),
        }
    }
}

/// A sweep under way.
#[derive(Debug)]
pub(super) struct Sweep<'s> {
    suspects: &'s mut Suspects,
    now: Instant,
    unreachable: HashSet<SocketCookie>,
}

impl Sweep<'_> {
    /// Judges one connection.
    pub(super) fn observe(&mut self, cookie: SocketCookie, state: TcpState) {
        let suspects = &mut *self.suspects;
        let earlier = suspects
            .suspicions
            .get(&cookie)
            .map(|(earlier, _)| *earlier);
        let suspicion = match judge(state, earlier, self.now, suspects.write_timeout) {
            Verdict::Reachable => {
                if earlier.is_some() {
                    suspects.suspicions.remove(&cookie);
                }
                return;
            }
            Verdict::Suspect(suspicion) => suspicion,
            Verdict::Unreachable(suspicion) => {
                self.unreachable.insert(cookie);
                suspicion
            }
        };
        let entry = (suspicion, suspects.sweep);
        suspects.suspicions.insert(cookie, entry);
    }

    /// Forgets the connections that are closed, and returns the unreachable ones.
    pub(super) fn finish(self) -> HashSet<SocketCookie> {
        let sweep = self.suspects.sweep;
        // The kernel's list is no snapshot and may miss a connection once.
        let is_recent = |seen: SweepNumber| seen + 1 >= sweep;
        self.suspects
            .suspicions
            .retain(|_, (_, seen)| is_recent(*seen));
        self.unreachable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::reachability::verdict::Outstanding;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Sweeps every 10 s; a sweep finds the given connections, which were silent from the start.
    fn sweep(
        suspects: &mut Suspects,
        start: Instant,
        number: u64,
        found: &[(u64, Outstanding)],
    ) -> HashSet<SocketCookie> {
        let since_start = Duration::from_secs(10 * number);
        let mut sweep = suspects.start_sweep(start + since_start);
        for &(cookie, outstanding) in found {
            let since_ack = since_start;
            let state = TcpState {
                outstanding,
                since_ack,
            };
            sweep.observe(SocketCookie(cookie), state);
        }
        sweep.finish()
    }

    #[test]
    fn silent_connections_are_returned_until_they_are_closed() {
        let (start, mut suspects) = (Instant::now(), Suspects::new(TIMEOUT));
        let found = [(1, Outstanding::Retransmission), (2, Outstanding::Nothing)];
        for number in 0..2 {
            assert!(sweep(&mut suspects, start, number, &found).is_empty());
        }
        let unreachable = HashSet::from([SocketCookie(1)]);
        assert_eq!(sweep(&mut suspects, start, 2, &found), unreachable);
        assert_eq!(sweep(&mut suspects, start, 3, &found), unreachable);
        assert!(sweep(&mut suspects, start, 4, &found[1..]).is_empty());
        assert_eq!(suspects.suspicions.len(), 1);
        assert!(sweep(&mut suspects, start, 5, &found[1..]).is_empty());
        assert!(suspects.suspicions.is_empty());
    }

    #[test]
    fn a_connection_that_one_sweep_misses_stays_suspect() {
        let (start, mut suspects) = (Instant::now(), Suspects::new(TIMEOUT));
        let found = [(1, Outstanding::Retransmission)];
        assert!(sweep(&mut suspects, start, 0, &found).is_empty());
        assert!(sweep(&mut suspects, start, 1, &[]).is_empty());
        assert_eq!(sweep(&mut suspects, start, 2, &found).len(), 1);
    }

    #[test]
    fn a_connection_that_recovers_is_forgotten_at_once() {
        let (start, mut suspects) = (Instant::now(), Suspects::new(TIMEOUT));
        sweep(&mut suspects, start, 0, &[(1, Outstanding::Retransmission)]);
        sweep(&mut suspects, start, 1, &[(1, Outstanding::Nothing)]);
        assert!(suspects.suspicions.is_empty());
    }
}
