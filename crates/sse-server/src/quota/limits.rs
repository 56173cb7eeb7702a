//! The limits of a caller, and the form of a rate.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use bytesize::ByteSize;
use sse_proto::units::parse_size;

use super::LimitKind;

/// Largest amount of a rate that counts. With more, the time per unit would be a few nanoseconds,
/// which a rate cannot measure exactly.
const COUNT_MAX: u64 = 10_000_000;
const BYTES_MAX: u64 = 1 << 40;

/// The limits of a caller. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Events that the caller publishes.
    pub events: Option<Rate>,
    /// Bytes of the bodies of its publishes.
    pub bytes: Option<Rate>,
    /// Streams that it has open at the same time.
    pub streams: Option<NonZeroUsize>,
    /// Streams that it opens.
    pub opens: Option<Rate>,
    /// Channels that it creates.
    pub channels: Option<Rate>,
    /// Reads of history, lists of channels, and streams that search for their start.
    pub searches: Option<Rate>,
}

impl Limits {
    /// Returns which limits are set, one bit each.
    pub(super) fn mask(&self) -> u8 {
        let set = [
            (self.events.is_some(), LimitKind::Events),
            (self.bytes.is_some(), LimitKind::Bytes),
            (self.streams.is_some(), LimitKind::Streams),
            (self.opens.is_some(), LimitKind::Opens),
            (self.channels.is_some(), LimitKind::Channels),
            (self.searches.is_some(), LimitKind::Searches),
        ];
        let bits = set.into_iter().filter(|(is_set, _)| *is_set);
        bits.fold(0, |mask, (_, limit)| mask | limit.bit())
    }

    /// Returns these limits, and those of `others` where there is none.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self {
            events: self.events.or(others.events),
            bytes: self.bytes.or(others.bytes),
            streams: self.streams.or(others.streams),
            opens: self.opens.or(others.opens),
            channels: self.channels.or(others.channels),
            searches: self.searches.or(others.searches),
        }
    }
}

/// An amount per time. The whole amount can be used at once, which is the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    amount: NonZeroU64,
    unit: TimeUnit,
    is_bytes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeUnit {
    Second,
    Minute,
    Hour,
}

impl TimeUnit {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "s" => Some(Self::Second),
            "m" => Some(Self::Minute),
            "h" => Some(Self::Hour),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

impl Rate {
    /// Parses a number per second, minute or hour: `100/s`, `600/m`, `1000/h`.
    ///
    /// # Errors
    ///
    /// The message for the user.
    pub fn parse_count(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(amount, unit)| {
            let is_number = amount.bytes().all(|byte| byte.is_ascii_digit());
            let amount = amount.parse().ok().filter(|_| is_number)?;
            Self::new(amount, unit, COUNT_MAX, false)
        });
        parsed.ok_or_else(|| {
            format!("write a number from 1 to {COUNT_MAX} per s, m or h, such as 100/s")
        })
    }

    /// Parses a size per second, minute or hour: `1MiB/s`.
    ///
    /// # Errors
    ///
    /// The message for the user.
    pub fn parse_bytes(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(amount, unit)| {
            let ByteSize(amount) = parse_size(amount).ok()?;
            Self::new(amount, unit, BYTES_MAX, true)
        });
        parsed.ok_or_else(|| {
            "write a size up to 1TiB per s, m or h, such as 1MiB/s or 512KiB/s".to_owned()
        })
    }

    fn new(amount: u64, unit: &str, max: u64, is_bytes: bool) -> Option<Self> {
        Some(Self {
            amount: NonZeroU64::new(amount).filter(|amount| amount.get() <= max)?,
            unit: TimeUnit::parse(unit)?,
            is_bytes,
        })
    }

    /// The amount that can be used in one [`period`](Self::period).
    #[must_use]
    pub const fn amount(self) -> NonZeroU64 {
        self.amount
    }

    /// Whether the amount is a number of things, and not of bytes.
    pub(super) const fn is_count(self) -> bool {
        !self.is_bytes
    }

    /// The time in which a used amount comes back.
    #[must_use]
    pub const fn period(self) -> Duration {
        match self.unit {
            TimeUnit::Second => Duration::from_secs(1),
            TimeUnit::Minute => Duration::from_mins(1),
            TimeUnit::Hour => Duration::from_hours(1),
        }
    }
}

/// Writes the rate so that it can be parsed again.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = if self.is_bytes { "B" } else { "" };
        write!(f, "{}{bytes}/{}", self.amount, self.unit.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_amount_per_second_minute_or_hour() {
        for (text, amount, seconds) in [("100/s", 100, 1), ("600/m", 600, 60), ("1/h", 1, 3600)] {
            let rate = Rate::parse_count(text).unwrap();
            assert_eq!(rate.amount().get(), amount);
            assert_eq!(rate.period(), Duration::from_secs(seconds));
            assert_eq!(Rate::parse_count(&rate.to_string()), Ok(rate));
        }
        let rate = Rate::parse_bytes("1MiB/s").unwrap();
        assert_eq!(rate.amount().get(), 1 << 20);
        assert_eq!(Rate::parse_bytes(&rate.to_string()), Ok(rate));
        assert!(Rate::parse_bytes("1000/s").is_ok());
    }

    #[test]
    fn other_texts_are_not_a_rate() {
        for text in [
            "",
            "100",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "100/d",
            "100 /s",
            "10000001/s",
        ] {
            assert!(Rate::parse_count(text).is_err(), "{text:?}");
        }
        for text in ["", "1MiB", "0/s", "1MiB/d", "2TiB/s"] {
            assert!(Rate::parse_bytes(text).is_err(), "{text:?}");
        }
    }
}
