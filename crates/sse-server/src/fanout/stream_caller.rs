//! Who opened a stream, and whether the stream may still be open. A streaming publish counts as one.
//!
//! A stream ends when its credential expires, when it is revoked, or when the rules or keys have
//! changed and no longer grant what the stream reads. No timer and no index per stream exist for
//! that: each fan-out thread checks its streams in slices (`reactor/access`), and an attached
//! stream waits for the next change.
//!
//! The guard of a stream has a deadline for the expiry of its credential. Streams whose tokens expire
//! at the same time end spread over the five seconds before it. The deadline is on a monotonic clock,
//! so no stream ends early if the system's clock is set.

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use sse_proto::Channel;
use tokio_util::sync::CancellationToken;

use super::stream_guard::CloseReason;
use crate::access::{AccessControl, AccessVersion, CredentialError, Identity, Right};

/// The time before its expiry over which the ends of streams are spread.
const SPREAD: Duration = Duration::from_secs(5);

/// Returns the id of the next stream or streaming publish. A restart begins at another number, so that an id of an
/// earlier run closes no stream of this one.
pub(super) fn next_id() -> u64 {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(rand::random::<u64>() >> 12));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The caller of one stream.
#[derive(Debug)]
pub struct StreamCaller {
    id: u64,
    control: AccessControl,
    /// What the caller needs for its channels.
    right: Right,
    address: Option<IpAddr>,
    opened: SystemTime,
    bytes: AtomicU64,
    checked: Mutex<Checked>,
    /// Cancelled when an operator closes the stream.
    closing: CancellationToken,
}

/// What the last check found.
#[derive(Debug)]
struct Checked {
    identity: Arc<Identity>,
    version: AccessVersion,
}

impl StreamCaller {
    /// The caller of a stream that is being opened. `version` was read before the identity was
    /// checked.
    #[must_use]
    pub fn new(
        control: AccessControl,
        identity: Arc<Identity>,
        version: AccessVersion,
        right: Right,
        address: Option<IpAddr>,
    ) -> Self {
        Self {
            id: next_id(),
            control,
            right,
            address,
            opened: SystemTime::now(),
            bytes: AtomicU64::new(0),
            checked: Mutex::new(Checked { identity, version }),
            closing: CancellationToken::new(),
        }
    }

    /// Returns when a stream of this identity ends; `None` if its credential does not expire.
    #[must_use]
    pub fn expiry(identity: &Identity) -> Option<Instant> {
        let early = SPREAD.mul_f64(rand::random());
        let end = identity.valid_until()?.checked_sub(early)?;
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        Instant::now().checked_add(left)
    }

    /// Returns the id by which an operator closes the stream, unique on this node.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Closes the stream within a second.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Returns the address of the client, if it has one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns when the stream was opened.
    #[must_use]
    pub const fn opened(&self) -> SystemTime {
        self.opened
    }

    /// Returns who the caller is.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.lock().identity.clone()
    }

    /// Returns the caller, its address and the id of the stream as one text.
    #[must_use]
    pub fn describe(&self) -> String {
        let identity = self.identity();
        let (principal, id) = (identity.principal(), self.id);
        match self.address {
            Some(address) => format!("{principal} at {address}, stream {id:016x}"),
            None => format!("{principal}, stream {id:016x}"),
        }
    }

    /// Counts bytes that were handed to the connection.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes that were handed to the connection.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns why the stream must end now; `None` if it may continue.
    pub(super) fn end_reason<'a>(
        &self,
        mut channels: impl Iterator<Item = &'a Channel>,
    ) -> Option<CloseReason> {
        if self.closing.is_cancelled() {
            return Some(CloseReason::Closed);
        }
        let version = self.control.version();
        let mut checked = self.lock();
        if checked.version == version {
            return None;
        }
        match self.control.recheck(&checked.identity) {
            Ok(identity) => {
                let mut has_channels = false;
                let permits = |channel| {
                    has_channels = true;
                    self.control.permits(&identity, self.right, channel)
                };
                if !channels.all(permits) {
                    return Some(CloseReason::RightLost);
                }
                // A stream whose position is unknown has no channels yet. It is checked later.
                if has_channels {
                    *checked = Checked { identity, version };
                }
                None
            }
            Err(CredentialError::Rejected(_)) => Some(CloseReason::RightLost),
            Err(CredentialError::Unavailable) => None,
        }
    }

    /// Waits until the stream must end, and returns why.
    pub(crate) async fn wait_until_ended(&self, channels: &[Channel]) -> CloseReason {
        loop {
            let version = self.control.version();
            if let Some(reason) = self.end_reason(channels.iter()) {
                return reason;
            }
            tokio::select! {
                () = self.control.changed_since(version) => {}
                () = self.closing.cancelled() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Checked> {
        // No code panics while it holds this lock.
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
