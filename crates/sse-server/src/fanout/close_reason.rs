//! Why a stream ended, for the metrics and the access log.

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed the connection or is gone.
    Client,
    /// The client accepted no data for too long.
    Stalled,
    /// The client read slowly, and blocked streams held too much memory.
    BlockedBytes,
    /// The client no longer answers: it acknowledges neither data nor probes.
    Unreachable,
    /// The client sent too much after its request.
    TooMuchInput,
    /// No event up to `until` can appear any more.
    UntilReached,
    /// The credential has expired.
    Expired,
    /// The credential was revoked, or no longer grants what the stream reads.
    RightLost,
    /// An operator closed the stream.
    Closed,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    pub(super) const ALL: [Self; 10] = [
        Self::Client,
        Self::Stalled,
        Self::BlockedBytes,
        Self::Unreachable,
        Self::TooMuchInput,
        Self::UntilReached,
        Self::Expired,
        Self::RightLost,
        Self::Closed,
        Self::Shutdown,
    ];

    /// Value of the label `reason` in the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Stalled => "stalled",
            Self::BlockedBytes => "blocked_bytes",
            Self::Unreachable => "unreachable",
            Self::TooMuchInput => "too_much_input",
            Self::UntilReached => "until_reached",
            Self::Expired => "expired",
            Self::RightLost => "right_lost",
            Self::Closed => "closed",
            Self::Shutdown => "shutdown",
        }
    }
}
