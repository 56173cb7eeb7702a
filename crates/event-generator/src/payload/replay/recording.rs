//! The source of a recording, and its errors.

use std::{fmt, io, path::PathBuf};

/// Source of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recording {
    /// `-` on the command line.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// Why a recording cannot be replayed to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("cannot open the recording {recording}")]
    Open {
        recording: Recording,
        source: io::Error,
    },
    #[error("cannot read the recording {recording} after line {line}")]
    Read {
        recording: Recording,
        line: u64,
        source: io::Error,
    },
    #[error("{recording}, line {line}: {why}")]
    Line {
        recording: Recording,
        line: u64,
        why: String,
    },
}

impl From<&str> for Recording {
    fn from(text: &str) -> Self {
        if text == "-" {
            Self::Stdin
        } else {
            Self::File(text.into())
        }
    }
}

/// The name in messages.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
