//! Event types of any server.

use std::{str::FromStr, sync::Arc};

use sse_proto::EventType;

/// An event type that a request can carry, to any server: a text without control characters, and
/// not empty.
///
/// Every [`EventType`] of sse-server is one. Other servers accept more, like a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnyEventType(Arc<str>);

/// The text is no event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event type is a text without control characters and is not empty")]
pub(crate) struct InvalidEventType;

impl AnyEventType {
    /// Returns the type as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<EventType> for AnyEventType {
    fn from(event_type: EventType) -> Self {
        Self(event_type.as_str().into())
    }
}

impl FromStr for AnyEventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        if text.is_empty() || text.contains(char::is_control) {
            Err(InvalidEventType)
        } else {
            Ok(Self(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_is_any_text_that_a_request_can_carry() {
        for good in ["view", "a/b", "error", &"x".repeat(1000)] {
            assert_eq!(good.parse::<AnyEventType>().unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "a\r", "\0", "\u{85}"] {
            assert_eq!(
                bad.parse::<AnyEventType>(),
                Err(InvalidEventType),
                "{bad:?}"
            );
        }
    }
}
