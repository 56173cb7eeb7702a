//! Why a run cannot start, or ends early.

use std::io;

use sse_cli::record_file::RecordError;

use crate::{payload::ReplayError, publisher::PublisherError, report::json::ReportError};

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("cannot create a system timer")]
    Timer(#[source] io::Error),
}

/// Why a run ends before the end of its schedule.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
}
