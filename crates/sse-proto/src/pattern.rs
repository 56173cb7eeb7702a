//! Patterns of channel names.
//!
//! A pattern is a name in which `*` matches one or more characters, including dots: `orders.*`
//! matches `orders.eu.42`, but neither `orders` nor `orders.`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::event::Channel;

/// A pattern of channel names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Box<str>);

/// The text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is 1 to 64 characters out of A-Z a-z 0-9 . _ : ~ - and *, which matches one or more characters"
)]
pub struct InvalidPattern;

impl Pattern {
    /// Returns the pattern that matches every channel: `*`.
    #[must_use]
    pub fn every_channel() -> Self {
        Self("*".into())
    }

    /// Returns the pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches `channel`, in linear time.
    #[must_use]
    pub fn matches(&self, channel: &Channel) -> bool {
        self.matches_text(channel.as_str())
    }

    /// Returns whether this pattern matches whatever `other` matches.
    ///
    /// Only a `*` of this pattern can match a `*` of the other one, and it also matches whatever
    /// that one matches. So it is enough to match the text.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches_text(&other.0)
    }

    /// The leftmost place of each literal leaves the most text for the others, so no place is tried
    /// twice.
    fn matches_text(&self, name: &str) -> bool {
        let Some((start, others)) = self.0.split_once('*') else {
            return *self.0 == *name;
        };
        let Some(mut rest) = name.strip_prefix(start) else {
            return false;
        };
        let (middle, end) = match others.rsplit_once('*') {
            Some((middle, end)) => (Some(middle), end),
            None => (None, others),
        };
        for literal in middle.into_iter().flat_map(|middle| middle.split('*')) {
            // One character for the `*`; names are ASCII.
            let found = rest.get(1..).and_then(|after| after.split_once(literal));
            let Some((_, after)) = found else {
                return false;
            };
            rest = after;
        }
        rest.len() > end.len() && rest.ends_with(end)
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:~-*".contains(&byte);
        if text.is_empty() || text.len() > Channel::BYTES_MAX || !text.bytes().all(allowed) {
            return Err(InvalidPattern);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.into()
    }
}

impl From<&Channel> for Pattern {
    fn from(channel: &Channel) -> Self {
        Self(channel.as_str().into())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
