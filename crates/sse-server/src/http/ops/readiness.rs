//! Whether a publish would work now, checked at most once per second.
//!
//! A check writes: to the file of the embedded log, or to Redis. Anyone may ask, so the checks
//! share a result that is at most a second old, and at most one check runs at a time. A result of
//! an earlier connection to Redis is not used.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::broker::{Broker, BrokerError, Warning};

/// Age up to which a result answers a request.
const AGE_MAX: Duration = Duration::from_secs(1);

type CheckResult = Result<Vec<Warning>, BrokerError>;

/// The last result; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<LastCheck>>>);

#[derive(Debug)]
struct LastCheck {
    at: Instant,
    /// [`Broker::era`] before the check.
    era: Option<u64>,
    result: CheckResult,
}

impl Readiness {
    /// Returns the warnings of a broker that works.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::check`].
    pub(in crate::http) async fn check(&self, broker: &Broker) -> CheckResult {
        // Requests that arrive during a check wait for its result.
        let mut last = self.0.lock().await;
        let era = broker.era();
        if let Some(last) = &*last
            && last.era == era
            && last.at.elapsed() < AGE_MAX
        {
            return last.result.clone();
        }
        let result = broker.check().await;
        *last = Some(LastCheck {
            at: Instant::now(),
            era,
            result: result.clone(),
        });
        result
    }
}
