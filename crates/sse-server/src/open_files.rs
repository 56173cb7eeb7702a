//! The limit of open files, which is the limit of connections.

use sse_cli::open_files;

/// Descriptors for the log, the broker's connections and the runtime.
const RESERVE: u64 = 128;

/// Raises the soft limit of open files to the hard one; returns how many connections fit.
pub(crate) fn raise_open_files() -> usize {
    if let Err(error) = open_files::raise_limit() {
        // Without it there is room for fewer; not a reason to stop.
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let files = open_files::current_limit().unwrap_or(1 << 20);
    usize::try_from(files.saturating_sub(RESERVE).max(16)).unwrap_or(usize::MAX)
}
