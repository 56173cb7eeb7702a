//! The type of an event that is sent.

use std::{str::FromStr, sync::Arc};

use sse_proto::EventType;

/// A type that a request can carry, to whichever server: some text without control characters. Every [`EventType`] of our
/// server is one; others take more, like a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind(Arc<str>);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event type is a text without control characters, and not empty")]
pub(crate) struct InvalidKind;

impl Kind {
    /// The type.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<EventType> for Kind {
    fn from(kind: EventType) -> Self {
        Self(kind.as_str().into())
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        if text.is_empty() || text.contains(char::is_control) {
            Err(InvalidKind)
        } else {
            Ok(Self(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_any_text_that_breaks_no_request() {
        for good in ["view", "a/b", "error", &"x".repeat(1000)] {
            assert_eq!(good.parse::<Kind>().unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "a\r", "\0", "\u{85}"] {
            assert_eq!(bad.parse::<Kind>(), Err(InvalidKind), "{bad:?}");
        }
    }
}
