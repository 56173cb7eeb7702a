//! The limit of open files, which is the limit of subscribers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for the log, the broker's connections and the runtime.
const RESERVE: u64 = 128;

/// Raises the soft limit of open files to the hard one; returns how many connections fit.
pub(crate) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Without it there is room for fewer; not a reason to stop.
        if let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        ) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files.saturating_sub(RESERVE).max(16)).unwrap_or(usize::MAX)
}
