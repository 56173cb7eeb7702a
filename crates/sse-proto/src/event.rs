//! What is published: an [`Event`], in a [`Channel`], of an [`EventType`].
//!
//! The parts are checked when they are made, so whoever holds one need not check again: a channel name cannot
//! break a cursor, and an event type cannot forge a line on the wire.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// Names a sequence of events: `[A-Za-z0-9._:~-]{1,64}`. Clones share the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(Arc<str>);

impl Channel {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The channel of a request that names none, as in Flask-SSE: `sse`.
    #[must_use]
    pub fn default_channel() -> Self {
        static SSE: LazyLock<Channel> = LazyLock::new(|| Channel("sse".into()));
        SSE.clone()
    }

    /// The name.
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
    /// Longest type, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Types that mean something to every `EventSource`, or to us, and so cannot be published.
    ///
    /// `open` and `error` are the connection's own events in a browser; `gap` says that events were lost.
    pub const RESERVED: [&str; 3] = ["gap", "open", "error"];

    /// The type.
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
        let forbidden = |c: char| c.is_control() || c == '/';
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.contains(forbidden) {
            return Err(InvalidName::EventType);
        }
        Ok(Self(text))
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

/// Why a name was refused. The text says what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a [`Channel`].
    #[error("a channel is 1 to 64 characters out of A-Z a-z 0-9 . _ : ~ -")]
    Channel,
    /// Not an [`EventType`].
    #[error("an event type is 1 to 128 bytes of UTF-8 without control characters or \"/\"")]
    EventType,
    /// One of [`EventType::RESERVED`].
    #[error("the event types gap, open and error are reserved: choose another name")]
    ReservedType,
}

/// What a publisher hands in. The broker gives it its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field.
    pub kind: EventType,
    /// Any text. Its line breaks (CR, LF, CR LF) arrive as LF, because the wire knows no other.
    pub data: ByteString,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_short_plain_word() {
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
    fn an_event_type_cannot_forge_a_line_or_a_gap() {
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
        }
    }
}
