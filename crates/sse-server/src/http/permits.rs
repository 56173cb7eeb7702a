//! A limited wait for the permits of a semaphore.

use std::time::Duration;

use tokio::{sync::AcquireError, time::timeout};

/// Returns what `acquiring` acquires, or `None` if that takes longer than `limit`.
pub(super) async fn acquire_within<P>(
    limit: Duration,
    acquiring: impl Future<Output = Result<P, AcquireError>>,
) -> Option<P> {
    timeout(limit, acquiring).await.ok()?.ok()
}
