//! How much a caller may use, as the configuration states it.
//!
//! ```toml
//! limits = { events = "100/s", bytes = "1MiB/s", streams = 50, opens = "10/s", channels = "10/s", searches = "5/s" }
//! ```

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use sse_proto::units::parse_size;

/// The limits of one caller, on this node. A limit that is `None` does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Events that it may publish.
    pub events: Option<Rate>,
    /// Bytes of event data that it may publish.
    pub bytes: Option<Rate>,
    /// Streams that it may have open at a time.
    pub streams: Option<NonZeroU64>,
    /// Streams that it may open.
    pub opens: Option<Rate>,
    /// Channels that it may create.
    pub channels: Option<Rate>,
    /// Searches through history.
    pub searches: Option<Rate>,
}

/// An amount per time: `100/s`, `1MiB/s`, `600/m`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much in each [`Self::period`]. It is also the burst.
    pub amount: NonZeroU64,
    /// One second, one minute or one hour.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "write an amount and a time, like 100/s, 1MiB/s, 600/m or 1000/h, and more than zero";
        let (amount, unit) = text.split_once('/').ok_or(WRONG)?;
        let period = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(WRONG),
        };
        let amount = parse_size(amount.trim()).map_err(|_| WRONG)?.0;
        let amount = NonZeroU64::new(amount).ok_or(WRONG)?;
        Ok(Self { amount, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            0..60 => "s",
            60..3600 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_amount_per_time() {
        for (text, amount, seconds, printed) in [
            ("100/s", 100, 1, "100/s"),
            ("1MiB/s", 1 << 20, 1, "1048576/s"),
            ("600 / m", 600, 60, "600/m"),
            ("1000/h", 1000, 3600, "1000/h"),
        ] {
            let rate: Rate = text.parse().unwrap();
            let found = (rate.amount.get(), rate.period.as_secs(), rate.to_string());
            assert_eq!(found, (amount, seconds, printed.to_owned()));
        }
        for bad in [
            "", "100", "100/", "/s", "0/s", "-1/s", "x/s", "1/d", "1/s/s", "NaN/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
