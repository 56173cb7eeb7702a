//! Options of a subscription.

use sse_proto::EventId;

use crate::channel::{Envelope, Filter};

/// What a client asks for; the same in each channel of its stream.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionOptions {
    /// Which events to send.
    pub filter: Filter,
    /// How to wrap their data.
    pub envelope: Envelope,
    /// The last id to send. The subscription ends when no event up to this id can follow.
    pub until: Option<EventId>,
    /// Whether the stream reports about itself.
    pub notices: bool,
}
