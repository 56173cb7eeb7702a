//! A limited wait for the permits of a semaphore.

use std::time::Duration;

use tokio::{sync::AcquireError, time::timeout};

/// Waits up to `limit` for the permits; returns `None` after that.
pub(super) async fn acquire_within<P>(
    limit: Duration,
    acquiring: impl Future<Output = Result<P, AcquireError>>,
) -> Option<P> {
    timeout(limit, acquiring).await.ok()?.ok()
}
