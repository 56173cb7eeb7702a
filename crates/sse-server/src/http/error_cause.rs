//! The internal cause of an error, which only the log shows.
//!
//! A cause may contain addresses, paths and the size of a disk. A client gets a general message
//! with a reference instead, and the log has one line with that reference and the cause:
//!
//! ```text
//! response   … (reference 5d0c9f1e in the server's log)
//! log        WARN a publish was rejected … reference=5d0c9f1e reason="the broker is not available: Redis at …"
//! ```
//!
//! Equal causes have the same reference, so an outage with a million failed requests has one
//! reference, and its line can be limited like any other.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

/// Makes references useless for a guess at the cause.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What went wrong inside the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorCause {
    pub(super) reference: Reference,
    /// The cause, for the operator.
    pub(super) text: String,
}

impl ErrorCause {
    /// Returns the cause with this text.
    pub(super) fn new(text: String) -> Self {
        Self {
            reference: Reference(SEED.hash_one(&text)),
            text,
        }
    }
}

/// The name of a cause. It is displayed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reference(u64);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_causes_have_one_reference() {
        let cause = |text: &str| ErrorCause::new(text.to_owned());
        assert_eq!(cause("disk full"), cause("disk full"));
        assert_ne!(cause("disk full").reference, cause("timeout").reference);
        assert_eq!(cause("disk full").reference.to_string().len(), 16);
    }
}
