//! Time limits of requests.

use std::time::Duration;

/// Longest time to connect, including name lookup and TLS.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for a request, including connecting.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is closed after this time.
///
/// Many servers close theirs after 5 s. A request that is sent at the moment of the close would
/// have an unknown outcome.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
