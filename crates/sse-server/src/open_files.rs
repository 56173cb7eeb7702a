//! The limit of open files, which is the limit of connections.

use sse_cli::open_files;

/// Descriptors for the log, the broker's connections and the runtime.
const RESERVE: u64 = 128;

/// How many files may be open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles {
    /// All descriptors of the process.
    pub(crate) files_max: usize,
    /// Those of them that connections may use.
    pub(crate) connections_max: usize,
}

/// Raises the soft limit of open files to the hard one; returns the limits.
pub(crate) fn raise_open_files() -> OpenFiles {
    if let Err(error) = open_files::raise_limit() {
        // Without it there is room for fewer; not a reason to stop.
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let files = open_files::current_limit().unwrap_or(1 << 20);
    let count = |files: u64| usize::try_from(files).unwrap_or(usize::MAX);
    OpenFiles {
        files_max: count(files),
        connections_max: count(files.saturating_sub(RESERVE).max(16)),
    }
}
