//! How much time a client may let the server spend on credentials that turn out to be worth nothing.
//!
//! To verify a signature takes up to some milliseconds of a worker, and anybody can invent a token. So
//! each check of a token that is not in the cache needs a turn. A check that ends with an identity
//! costs nothing. Any other one counts with its time, and a client that has used up its time waits:
//!
//! ```text
//! 200 ms per second for each client, of which 500 ms can be used at once
//!
//! client A   invents tokens: 500 ms at once, then 200 ms per second
//! client B   presents a valid token: verified at once
//! ```

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::CredentialError;
use crate::budget::{ClientNet, Rate, Reservation};

/// Time of a client, in microseconds per second and at once.
const PER_SECOND: u32 = 200_000;
const BURST: u32 = 500_000;
/// Time that a check reserves, in microseconds, and the most that it counts: its thread may be
/// interrupted.
const RESERVED: u32 = 5_000;
const COST_MAX: u32 = 10_000;
/// How long a check may wait for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The time that each client has left.
#[derive(Debug)]
pub(super) struct SignatureChecks(Rate);

/// The turn of one check.
#[derive(Debug)]
pub(super) struct CheckTurn(Reservation);

impl Default for SignatureChecks {
    fn default() -> Self {
        Self(Rate::new(PER_SECOND, BURST))
    }
}

impl SignatureChecks {
    /// Reserves a turn for a check. A client without an address has no limit.
    pub(super) fn reserve(&self, client: Option<ClientNet>) -> CheckTurn {
        CheckTurn(self.0.reserve(client, RESERVED, Instant::now()))
    }
}

impl CheckTurn {
    /// Whether the check may begin.
    pub(super) fn is_due(&self) -> bool {
        self.0.starts_at <= Instant::now()
    }

    /// Waits until the check may begin.
    ///
    /// # Errors
    ///
    /// `Unavailable`: it would take too long.
    pub(super) async fn wait(&self) -> Result<(), CredentialError> {
        if self.0.starts_at > Instant::now() + WAIT_MAX {
            return Err(CredentialError::Unavailable);
        }
        sleep_until(self.0.starts_at.into()).await;
        Ok(())
    }

    /// Ends a check that began at `began`.
    pub(super) fn finish(self, found_identity: bool, began: Instant) {
        let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(COST_MAX);
        self.0.finish(if found_identity {
            0
        } else {
            took.min(COST_MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> ClientNet {
        IpAddr::from([192, 0, 2, last]).into()
    }

    /// When a check began that has taken the longest time.
    fn long_ago() -> Instant {
        Instant::now().checked_sub(Duration::from_secs(1)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_invents_tokens_waits_and_delays_no_other() {
        let checks = SignatureChecks::default();
        for _ in 0..=BURST / COST_MAX {
            let turn = checks.reserve(Some(client(1)));
            assert!(turn.is_due());
            turn.finish(false, long_ago());
        }
        assert!(!checks.reserve(Some(client(1))).is_due());
        for other in [Some(client(2)), None] {
            assert!(checks.reserve(other).is_due());
        }
        // Those that wait have their turns one after another.
        let waiting: Vec<_> = (0..300).map(|_| checks.reserve(Some(client(1)))).collect();
        assert!(waiting[0].wait().await.is_ok());
        assert_eq!(waiting[299].wait().await, Err(CredentialError::Unavailable));
    }

    #[test]
    fn valid_tokens_cost_nothing() {
        let checks = SignatureChecks::default();
        for _ in 0..10 * BURST / RESERVED {
            let turn = checks.reserve(Some(client(1)));
            assert!(turn.is_due());
            turn.finish(true, long_ago());
        }
    }
}
