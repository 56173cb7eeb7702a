//! One entry of a trace, as JSON. It contains no data of an event.

use std::net::IpAddr;

use serde::Serialize;
use sse_proto::{Channel, EventId};

use super::Actor;

/// Characters of a text of an entry.
const TEXT_CHARS_MAX: usize = 200;

/// What happened.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening<'a> {
    /// A request got a response.
    Request {
        /// The method.
        method: &'a str,
        /// The path, without the query, which may have a secret.
        path: &'a str,
        /// The right that the request needs; `None` if it needs none.
        #[serde(skip_serializing_if = "Option::is_none")]
        right: Option<&'static str>,
        /// The status of the response.
        status: u16,
        /// `ok`, the code of an error, or why a stream was rejected.
        result: &'a str,
        /// The message of the error.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    },
    /// Events were stored.
    Published {
        /// Events that were added.
        events: usize,
        /// The bytes of their data.
        bytes: usize,
        /// Events that were stored before, under the same key.
        duplicates: usize,
        /// The first id of the response.
        first_id: EventId,
        /// The last id of the response.
        last_id: EventId,
    },
    /// A stream was sent a gap.
    Gap {
        /// Why events are missing.
        reason: &'static str,
    },
    /// A stream has ended.
    StreamEnded {
        /// Why.
        reason: &'static str,
    },
}

#[derive(Serialize)]
struct Entry<'a> {
    /// Milliseconds since the Unix epoch.
    time_ms: u64,
    channels: &'a [Channel],
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    #[serde(flatten)]
    happening: Happening<'a>,
}

/// Returns an entry as one line of JSON.
pub(super) fn to_json(time_ms: u64, actor: &Actor<'_>, happening: &Happening<'_>) -> String {
    let caller = actor
        .identity
        .map(|identity| identity.principal().to_string());
    let entry = Entry {
        time_ms,
        channels: actor.channels,
        address: actor.address.map(|address| address.to_canonical()),
        caller: caller.map(|caller| shortened(&caller).to_owned()),
        happening: happening.shortened(),
    };
    // Only a map with keys that are no texts could fail.
    serde_json::to_string(&entry).unwrap_or_default()
}

impl Happening<'_> {
    /// Returns the same with short texts.
    fn shortened(&self) -> Self {
        match *self {
            Self::Request {
                method,
                path,
                right,
                status,
                result,
                message,
            } => Self::Request {
                method: shortened(method),
                path: shortened(path),
                right,
                status,
                result,
                message: message.map(shortened),
            },
            Self::Published { .. } | Self::Gap { .. } | Self::StreamEnded { .. } => *self,
        }
    }
}

fn shortened(text: &str) -> &str {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_short_texts() {
        let path = format!("/event/\n{}", "ä".repeat(500));
        let request = Happening::Request {
            method: "POST",
            path: &path,
            right: Some("publish"),
            status: 413,
            result: "too_large",
            message: None,
        };
        let actor = Actor {
            address: None,
            identity: None,
            channels: &[],
        };
        let json = to_json(7, &actor, &request);
        assert!(!json.contains('\n') && json.len() < 700, "{json}");
        assert!(
            json.starts_with(r#"{"time_ms":7,"channels":[],"kind":"request","#),
            "{json}"
        );
    }
}
