//! [`Event`], [`EventType`] and [`Channel`]: the parts of a publish request, already validated.
//!
//! The types are validated when they are created. A channel name cannot break a cursor, and an
//! event type cannot add a line to the stream. The size of the data is limited by the server.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// Name of a channel, which is a sequence of events: `[A-Za-z0-9._:~-]{1,64}`.
///
/// Clones share the memory of the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(Arc<str>);

impl Channel {
    /// Maximum length of a name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Returns the channel of a request that names no channel: `sse`, as in Flask-SSE.
    #[must_use]
    pub fn default_channel() -> Self {
        static SSE: LazyLock<Channel> = LazyLock::new(|| Channel("sse".into()));
        SSE.clone()
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Channel {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte);
        if name.is_empty() || name.len() > Self::BYTES_MAX || !name.bytes().all(allowed) {
            return Err(InvalidName::Channel);
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for Channel {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        name.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.0.to_string()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of an event, its `event:` field: 1–128 bytes without control characters or `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(ByteString);

impl EventType {
    /// Maximum length of a type, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Types that a publisher cannot use.
    ///
    /// An `EventSource` fires `open` and `error` for its connection. The server sends `gap` if a
    /// subscriber may have missed events, and `notice` about the stream itself. `end` is reserved for
    /// the end of a channel.
    pub const RESERVED: [&str; 5] = ["gap", "open", "error", "end", "notice"];

    /// Reserved types that no log has, because they always were reserved.
    pub const NEVER_STORED: [&str; 3] = ["gap", "open", "error"];

    /// Returns the type of a stored event. A type that was not always reserved is allowed.
    ///
    /// # Errors
    ///
    /// No version of the server has stored such a type.
    pub fn of_stored(text: ByteString) -> Result<Self, InvalidName> {
        if Self::NEVER_STORED.contains(&&*text) {
            return Err(InvalidName::ReservedType);
        }
        Self::checked(text)
    }

    fn checked(text: ByteString) -> Result<Self, InvalidName> {
        let forbidden = |c: char| c.is_control() || c == '/';
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.contains(forbidden) {
            return Err(InvalidName::EventType);
        }
        Ok(Self(text))
    }

    /// Returns the type as a text whose memory clones share.
    #[must_use]
    pub const fn text(&self) -> &ByteString {
        &self.0
    }

    /// Returns the type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<ByteString> for EventType {
    type Error = InvalidName;

    fn try_from(text: ByteString) -> Result<Self, InvalidName> {
        if Self::RESERVED.contains(&&*text) {
            return Err(InvalidName::ReservedType);
        }
        Self::checked(text)
    }
}

impl FromStr for EventType {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        ByteString::from(text).try_into()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a name is invalid. The error text states what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is not a valid [`Channel`].
    #[error("a channel is 1 to 64 characters out of A-Z a-z 0-9 . _ : ~ -")]
    Channel,
    /// The text is not a valid [`EventType`].
    #[error("an event type is 1 to 128 bytes of UTF-8 without control characters or \"/\"")]
    EventType,
    /// The type is one of [`EventType::RESERVED`].
    #[error("the event types gap, open, error, end and notice are reserved: choose another name")]
    ReservedType,
}

/// An event of a publish request. The broker assigns the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Event type, sent in the `event:` field.
    pub kind: EventType,
    /// Event data, which can be any text.
    ///
    /// CR, LF and CR LF arrive as LF, because `text/event-stream` does not distinguish them.
    pub data: ByteString,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_has_1_to_64_allowed_characters() {
        for good in ["sse", "a", "Orders.eu:1~x_-", &"x".repeat(64)] {
            assert_eq!(
                good.parse::<Channel>().map(String::from),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            " ",
            "a b",
            "a/b",
            "a=b",
            "a,b",
            "@a",
            "é",
            "a\n",
            &"x".repeat(65),
        ] {
            assert_eq!(bad.parse::<Channel>(), Err(InvalidName::Channel), "{bad:?}");
        }
    }

    #[test]
    fn an_event_type_cannot_add_a_line_or_be_a_gap() {
        for good in [
            "click",
            "événement",
            "a b",
            " x",
            "message",
            "gaps",
            &"x".repeat(128),
        ] {
            assert!(good.parse::<EventType>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a\nid: 5",
            "a\rb",
            "a\0",
            "a/b",
            "\u{85}",
            "\u{7f}",
            &"x".repeat(129),
        ] {
            assert_eq!(
                bad.parse::<EventType>(),
                Err(InvalidName::EventType),
                "{bad:?}"
            );
        }
        for reserved in EventType::RESERVED {
            assert_eq!(
                reserved.parse::<EventType>(),
                Err(InvalidName::ReservedType)
            );
            let may_be_stored = EventType::of_stored(reserved.into()).is_ok();
            assert_eq!(may_be_stored, !EventType::NEVER_STORED.contains(&reserved));
        }
    }
}
