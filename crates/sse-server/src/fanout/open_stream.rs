//! A stream that a request opens, before its body exists.

use sse_proto::EventId;

use super::{
    TransferCoding, attached_list::AttachedEntry, detach::DetachableSocket,
    multiplexed::MultiplexedStream, start::NewSubscription, stream_guard::StreamGuard,
};
use crate::channel::{ReservedChannels, Searcher};

/// What a fan-out thread needs to take over the connection of a stream.
#[derive(Debug)]
pub struct Handover {
    /// Connection of the response.
    pub socket: DetachableSocket,
    /// How the body goes over the connection.
    pub coding: TransferCoding,
    /// Whether the socket may leave actix.
    pub may_detach: bool,
}

/// A stream that is about to be served.
pub struct OpenStream {
    /// What the client receives, or that this is unknown yet.
    pub subscription: NewSubscription,
    /// The last event that the client wants.
    pub until: Option<EventId>,
    /// Counts the stream.
    pub guard: StreamGuard,
    /// Keeps the channels until the stream has joined them.
    pub reserved: ReservedChannels,
    /// Searches for the client.
    pub searcher: Searcher,
    /// `None` if the stream must stay attached.
    pub handover: Option<Handover>,
    /// `None` if the stream has its connection for itself.
    pub multiplexed: Option<MultiplexedStream>,
    /// Lists the stream while it is being opened; `None` without access rules.
    pub starting: Option<AttachedEntry>,
}
