//! The end of a channel: the record after which no other follows.

use std::{fmt, str::FromStr};

use bytestring::ByteString;
use sse_proto::{Channel, EventId, Position, api::End};

use crate::broker::{Continuity, GAP, Page, ReadFrom, Stored};

/// The type by which readers recognise the end, which no publisher can set.
///
/// The control character is what makes it a mark: the type of an event has none, not even in a log
/// of an earlier version, which can hold events of the type `end`. On the wire the type is `end`
/// ([`wire_kind`]). A log that stores the end as a record may mark it in another way.
pub const END: &str = "\u{0}end";

/// The reason of a deletion. No publisher can close a channel with it.
pub const DELETED: &str = "deleted";

/// Returns the type of a record as it is sent to clients.
#[must_use]
pub fn wire_kind(kind: &str) -> &str {
    if kind == END { "end" } else { kind }
}

/// Whether a type belongs to a record that every filter passes and no envelope wraps: a gap record
/// or the end.
#[must_use]
pub(crate) fn is_control(kind: &str) -> bool {
    kind == GAP || kind == END
}

/// Why a channel was closed: `[a-z0-9_.-]{1,32}`, but not `deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CloseReason(ByteString);

/// The text is not a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a reason: write 1 to 32 characters out of a-z 0-9 _ . -, for example completed, failed \
     or cancelled; the reason deleted is reserved"
)]
pub struct InvalidReason;

impl CloseReason {
    /// Maximum length in bytes.
    pub const BYTES_MAX: usize = 32;

    /// Returns the reason of a deletion.
    #[must_use]
    pub const fn deleted() -> Self {
        Self(ByteString::from_static(DELETED))
    }

    /// Reads a reason from a log, which may be `deleted`.
    ///
    /// # Errors
    ///
    /// The text is not a reason.
    pub fn of_stored(text: &str) -> Result<Self, InvalidReason> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        if text.is_empty() || text.len() > Self::BYTES_MAX || !text.bytes().all(allowed) {
            return Err(InvalidReason);
        }
        Ok(Self(text.into()))
    }

    /// Returns the reason as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CloseReason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        if text == DELETED {
            return Err(InvalidReason);
        }
        Self::of_stored(text)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of an incarnation, as a log stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndMark {
    /// Id of the end, which is above every other id of the incarnation.
    pub id: EventId,
    /// The last id before the end. It is the origin of the channel if there was no event.
    pub after: EventId,
    /// Whether the incarnation ever had an event.
    pub has_events: bool,
    /// The reason.
    pub reason: CloseReason,
}

impl EndMark {
    /// Returns the read of the events that a read of the closed channel needs; `None` if its
    /// position is after the end, so that it gets [`nothing`](Self::nothing).
    pub(in crate::broker) fn resolve(&self, from: ReadFrom) -> Option<ReadFrom> {
        match from {
            ReadFrom::Position(position) if self.is_seen_at(position) => None,
            ReadFrom::Position(Position::At(id)) if id == self.id => {
                Some(ReadFrom::Position(Position::After(self.after)))
            }
            from => Some(from),
        }
    }

    /// Returns the page of a reader that has seen the end.
    pub(in crate::broker) const fn nothing(&self) -> Page {
        Page {
            start: Continuity::Contiguous,
            events: Vec::new(),
            more: false,
            last: self.id,
        }
    }

    /// Adds the end to a page that reaches the last event.
    pub(in crate::broker) fn add_to(&self, channel: &Channel, page: &mut Page) {
        page.last = self.id;
        if page.more {
            return;
        }
        if let Continuity::Gap { oldest, .. } = &mut page.start
            && oldest.is_none()
        {
            *oldest = Some(self.id);
        }
        page.events.push(self.record(channel));
    }

    /// Whether a client at `position` has seen the end.
    pub(in crate::broker) fn is_seen_at(&self, position: Position) -> bool {
        matches!(position, Position::After(id) if id >= self.id)
    }

    /// Returns the record that readers get.
    #[must_use]
    pub fn record(&self, channel: &Channel) -> Stored {
        let end = End {
            channel: channel.clone(),
            reason: self.reason.as_str().to_owned(),
            last: self.has_events.then_some(self.after),
        };
        Stored {
            id: self.id,
            kind: ByteString::from_static(END),
            // An end has only strings, which JSON can express.
            data: serde_json::to_string(&end).unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_1_to_32_allowed_characters_and_is_not_deleted() {
        for good in ["completed", "a", "user_1.x-y", &"x".repeat(32)] {
            assert_eq!(good.parse::<CloseReason>().unwrap().as_str(), good);
        }
        for bad in ["", "Completed", "a b", "é", "a\n", DELETED, &"x".repeat(33)] {
            assert_eq!(bad.parse::<CloseReason>(), Err(InvalidReason), "{bad:?}");
        }
        assert!(CloseReason::of_stored(DELETED).is_ok());
    }

    #[test]
    fn no_publisher_can_set_the_mark_of_an_end() {
        assert!(END.parse::<sse_proto::EventType>().is_err());
        assert!(sse_proto::EventType::of_stored(END.into()).is_err());
        let mark = EndMark {
            id: EventId::new(7, 1),
            after: EventId::new(7, 0),
            has_events: true,
            reason: "completed".parse().unwrap(),
        };
        let record = mark.record(&"a".parse().unwrap());
        assert!(record.is_end() && !record.is_gap());
        assert_eq!(
            &*record.data,
            r#"{"channel":"a","reason":"completed","last":"7-0"}"#
        );
        assert_eq!(wire_kind(&record.kind), "end");
    }
}
