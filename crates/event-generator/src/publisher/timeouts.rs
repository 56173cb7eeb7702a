//! How long a request may take.

use std::time::Duration;

/// How long connecting may take, name lookup and TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request may take, connecting included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is closed after this long.
///
/// Many servers close theirs after 5 s; a request that crosses such a close would have an unknown outcome.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
