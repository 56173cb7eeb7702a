//! Positions in the log: [`EventId`] of an event, [`Position`] and [`Cursor`] of a subscriber.
//!
//! ```text
//! 1700000000123-5                 after this event: the `id:` field of an event
//! @1700000000123-5                before this event: the position after a gap
//! orders=1700-0,users=@1702-4     one position per channel, for a stream of several channels
//! ```
//!
//! Parsing accepts only text that this module writes. Whether the log still has the events of a
//! cursor is a question for the broker.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::event::Channel;

/// Id that the broker assigns to an event: `<ms>-<seq>`, the form of a Redis Stream id.
///
/// The ids of a log only grow, so their order is the order of the events.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// Milliseconds since the Unix epoch, by the log's clock.
    pub ms: u64,
    /// Sequence number of the event within its millisecond.
    pub seq: u64,
}

impl EventId {
    /// The id before every event, which is the position in a channel without events.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// Creates an id from a time in milliseconds and a sequence number.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Returns the greatest id below this id. For [`ZERO`](Self::ZERO) the result is `ZERO`.
    #[must_use]
    pub const fn before(self) -> Self {
        match (self.ms, self.seq) {
            (0, 0) => Self::ZERO,
            (ms, 0) => Self::new(ms - 1, u64::MAX),
            (ms, seq) => Self::new(ms, seq - 1),
        }
    }

    /// Returns the least id above this id, or `None` if this id is the greatest.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => None,
            (ms, u64::MAX) => Some(Self::new(ms + 1, 0)),
            (ms, seq) => Some(Self::new(ms, seq + 1)),
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EventId {
    type Err = InvalidCursor;

    /// Parses the only form that [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (ms, seq) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self::new(parse_number(ms)?, parse_number(seq)?))
    }
}

/// Parses a number without a sign and without leading zeros.
fn parse_number(digits: &str) -> Result<u64, InvalidCursor> {
    let is_canonical = digits == "0" || !digits.starts_with(['0', '+']);
    if is_canonical {
        digits.parse().map_err(|_| InvalidCursor)
    } else {
        Err(InvalidCursor)
    }
}

impl TryFrom<String> for EventId {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, InvalidCursor> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

/// A position between two events of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// The subscriber has received every event up to this id.
    After(EventId),
    /// The subscriber next receives this event, or the first event after it.
    At(EventId),
}

impl Position {
    /// Returns the greatest id before this position. Events after the position have greater ids.
    #[must_use]
    pub const fn floor(self) -> EventId {
        match self {
            Self::After(id) => id,
            Self::At(id) => id.before(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(id) => id.fmt(f),
            Self::At(id) => write!(f, "@{id}"),
        }
    }
}

impl FromStr for Position {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        match text.strip_prefix('@') {
            Some(id) => id.parse().map(Self::At),
            None => text.parse().map(Self::After),
        }
    }
}

/// Position of a subscriber, which it sends as `Last-Event-ID` to resume (WHATWG HTML §9.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Position in a stream of one channel.
    Plain(Position),
    /// Positions in a stream of several channels.
    ///
    /// Each channel occurs once, and there are at most [`CHANNELS_MAX`](Self::CHANNELS_MAX).
    Composite(Vec<(Channel, Position)>),
}

impl Cursor {
    /// Maximum number of channels per stream, and therefore per cursor.
    pub const CHANNELS_MAX: usize = 32;
    /// Maximum length of a cursor in bytes. A channel needs its name, two numbers of up to 20
    /// digits, and the characters `=@-,`.
    pub const BYTES_MAX: usize = Self::CHANNELS_MAX * (Channel::BYTES_MAX + 2 * 20 + 4);

    /// Returns the position in `channel`, for a stream of only that channel.
    ///
    /// Returns `None` if a composite cursor does not name the channel.
    #[must_use]
    pub fn position_in(&self, channel: &Channel) -> Option<Position> {
        match self {
            Self::Plain(position) => Some(*position),
            Self::Composite(positions) => positions
                .iter()
                .find(|(name, _)| name == channel)
                .map(|(_, position)| *position),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(position) => position.fmt(f),
            Self::Composite(positions) => write_positions(f, positions),
        }
    }
}

fn write_positions(f: &mut fmt::Formatter<'_>, positions: &[(Channel, Position)]) -> fmt::Result {
    for (nth, (channel, position)) in positions.iter().enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        write!(f, "{comma}{channel}={position}")?;
    }
    Ok(())
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidCursor);
        }
        if !text.contains('=') {
            return text.parse().map(Self::Plain);
        }
        parse_positions(text).map(Self::Composite)
    }
}

fn parse_positions(text: &str) -> Result<Vec<(Channel, Position)>, InvalidCursor> {
    let mut positions: Vec<(Channel, Position)> = Vec::new();
    for item in text.split(',') {
        let (channel, position) = item.split_once('=').ok_or(InvalidCursor)?;
        let channel: Channel = channel.parse().map_err(|_| InvalidCursor)?;
        if positions.len() == Cursor::CHANNELS_MAX
            || positions.iter().any(|(other, _)| *other == channel)
        {
            return Err(InvalidCursor);
        }
        positions.push((channel, position.parse()?));
    }
    Ok(positions)
}

/// The text is not a cursor of this system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of this system: expected one like 1700000000000-0")]
pub struct InvalidCursor;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Position> {
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(ms, seq, at)| {
            let id = EventId::new(ms, seq);
            if at {
                Position::At(id)
            } else {
                Position::After(id)
            }
        })
    }

    proptest! {
        #[test]
        fn every_cursor_is_parsed_as_it_was_written(plain in position(), composite in prop::collection::btree_map("[A-Za-z0-9._:~-]{1,64}", position(), 1..5)) {
            let plain = Cursor::Plain(plain);
            prop_assert_eq!(plain.to_string().parse(), Ok(plain));
            let composite = Cursor::Composite(
                composite.into_iter().map(|(name, at)| (name.parse().expect("matches the grammar"), at)).collect(),
            );
            prop_assert_eq!(composite.to_string().parse(), Ok(composite));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Cursor>();
        }
    }

    #[test]
    fn only_the_form_that_display_writes_is_accepted() {
        for bad in [
            "",
            "5",
            "5-",
            "-5",
            "05-1",
            "5-01",
            "+5-1",
            "5-+1",
            " 5-1",
            "5-1 ",
            "5-1-1",
            "@",
            "@@5-1",
            "a=",
            "=5-1",
            "a=5-1,",
            "a=5-1,a=5-2",
            "a=5-1,5-2",
            "18446744073709551616-0",
            "٣-١",
            "5-*",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad:?}");
        }
    }

    #[test]
    fn ids_sort_as_numbers_and_have_a_greatest_smaller_id() {
        let id = |text: &str| text.parse::<EventId>().expect("a valid id");
        assert!(id("9-0") < id("10-0") && id("10-9") < id("10-10"));
        assert_eq!(id("10-1").before(), id("10-0"));
        assert_eq!(id("10-0").before(), EventId::new(9, u64::MAX));
        assert_eq!(EventId::ZERO.before(), EventId::ZERO);
        assert_eq!(Position::At(id("10-1")).floor(), id("10-0"));
    }

    #[test]
    fn the_longest_cursor_is_accepted_and_one_more_channel_is_rejected() {
        let named = |nth: usize| format!("{nth:a>64}").parse().expect("a channel");
        let longest = |channels| {
            (0..channels)
                .map(|nth| (named(nth), Position::At(EventId::new(u64::MAX, u64::MAX))))
                .collect()
        };
        let most = Cursor::Composite(longest(Cursor::CHANNELS_MAX));
        assert_eq!(most.to_string().len(), Cursor::BYTES_MAX - 1);
        assert_eq!(most.to_string().parse(), Ok(most));
        let small = (0..=Cursor::CHANNELS_MAX)
            .map(|nth| format!("c{nth}=1-0"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(small.parse::<Cursor>(), Err(InvalidCursor));
        assert_eq!(
            "9".repeat(Cursor::BYTES_MAX + 1).parse::<Cursor>(),
            Err(InvalidCursor)
        );
    }

    #[test]
    fn a_composite_cursor_has_positions_only_for_the_channels_that_it_names() {
        let cursor: Cursor = "orders=1700-0,users=@1702-4"
            .parse()
            .expect("a valid cursor");
        let of = |name: &str| cursor.position_in(&name.parse().expect("a channel"));
        assert_eq!(of("users"), Some(Position::At(EventId::new(1702, 4))));
        assert_eq!(of("other"), None);
    }
}
