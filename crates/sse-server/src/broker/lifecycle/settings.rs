//! The settings of one channel.

/// What a channel sets for itself. What it does not set comes from its class
/// ([`Classes`](super::Classes)).
///
/// Times are in milliseconds of the log's clock.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelSettings {
    /// Events that the channel keeps.
    pub history_events: Option<u64>,
    /// Age of an event that the channel keeps. The newest event stays.
    pub history_age_ms: Option<u64>,
    /// Bytes of the events that the channel keeps. The newest event stays. Only in-process logs.
    pub history_bytes: Option<u64>,
    /// Time after the last write at which an open channel is trimmed to no event.
    pub ttl_ms: Option<u64>,
    /// Time after the end at which a closed channel is deleted.
    pub ttl_closed_ms: Option<u64>,
}

impl ChannelSettings {
    /// Nothing is set.
    pub const NONE: Self = Self {
        history_events: None,
        history_age_ms: None,
        history_bytes: None,
        ttl_ms: None,
        ttl_closed_ms: None,
    };

    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::NONE
    }

    /// The values in the order in which logs store them.
    #[must_use]
    pub const fn to_array(self) -> [Option<u64>; 5] {
        [
            self.history_events,
            self.history_age_ms,
            self.history_bytes,
            self.ttl_ms,
            self.ttl_closed_ms,
        ]
    }

    /// Reverses [`to_array`](Self::to_array).
    #[must_use]
    pub const fn from_array(values: [Option<u64>; 5]) -> Self {
        let [
            history_events,
            history_age_ms,
            history_bytes,
            ttl_ms,
            ttl_closed_ms,
        ] = values;
        Self {
            history_events,
            history_age_ms,
            history_bytes,
            ttl_ms,
            ttl_closed_ms,
        }
    }

    /// Returns these settings, with those of `other` where nothing is set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (own, other) = (self.to_array(), other.to_array());
        Self::from_array(std::array::from_fn(|nth| own[nth].or(other[nth])))
    }

    /// Whether both differ at most in `ttl_closed_ms`.
    #[must_use]
    pub fn differs_only_in_ttl_closed(self, other: Self) -> bool {
        Self {
            ttl_closed_ms: other.ttl_closed_ms,
            ..self
        } == other
    }
}

/// Where an effective setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource {
    /// The channel sets it.
    Channel,
    /// The class of the channel sets it.
    Class,
    /// The flags set it, or nothing does.
    Flags,
}

impl SettingSource {
    /// The source as the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Class => "class",
            Self::Flags => "flags",
        }
    }
}
