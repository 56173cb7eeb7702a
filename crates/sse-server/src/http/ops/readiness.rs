//! Whether a publish would work now, checked at most once per second.
//!
//! A check writes: to the file of the embedded log, or to Redis. Anyone may ask, so the checks share
//! a result that is at most a second old, and at most one check runs at a time.

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
pub struct Readiness(Arc<Mutex<Option<(Instant, CheckResult)>>>);

impl Readiness {
    /// Returns the warnings of a broker that works.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::check`].
    pub(super) async fn check(&self, broker: &Broker) -> CheckResult {
        // Requests that arrive during a check wait for its result.
        let mut last = self.0.lock().await;
        if let Some((checked, result)) = &*last
            && checked.elapsed() < AGE_MAX
        {
            return result.clone();
        }
        let result = broker.check().await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
