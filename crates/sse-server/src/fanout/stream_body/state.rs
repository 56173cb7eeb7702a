//! The states of a stream's body.

use std::{fmt::Display, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use sse_proto::{Channel, wire};

use crate::{
    channel::MultiSubscription,
    fanout::{attached::AttachedStream, shared_state::encode_heartbeat, start::NewSubscription},
};

/// What a stream is, and who serves it.
pub(super) enum State {
    /// The start position is unknown, because the broker has not answered yet.
    Starting(BoxFuture<'static, MultiSubscription>),
    /// The subscription has a start position, and has sent nothing.
    Ready(MultiSubscription),
    /// The body serves the stream.
    Attached(Box<AttachedStream>),
    /// A fan-out thread serves the stream.
    Detached,
}

impl From<NewSubscription> for State {
    fn from(new: NewSubscription) -> Self {
        match new {
            NewSubscription::Ready(subscription) => Self::Ready(subscription),
            NewSubscription::Pending(starting) => Self::Starting(starting),
        }
    }
}

impl State {
    /// Returns the channels; none while the subscription is unknown.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let subscription = self.subscription();
        subscription.map_or_else(Vec::new, |subscription| {
            subscription.channels().cloned().collect()
        })
    }

    /// Returns the subscription, if it is known and the body has it.
    pub(super) fn subscription(&self) -> Option<&MultiSubscription> {
        match self {
            Self::Ready(subscription) => Some(subscription),
            Self::Attached(attached) => Some(&attached.subscription),
            Self::Starting(_) | Self::Detached => None,
        }
    }

    /// Returns the last cursor that the client was sent.
    pub(super) fn sent_cursor(&self) -> Option<impl Display> {
        match self {
            Self::Ready(subscription) => subscription.sent_cursor(),
            Self::Attached(attached) => attached.subscription.sent_cursor(),
            Self::Starting(_) | Self::Detached => None,
        }
    }

    /// Encodes the opening, with the start position if it is known.
    pub(super) fn encode_opening(&self, retry: Duration, comment: &str) -> Bytes {
        let position = match self {
            Self::Ready(subscription) => subscription.opening_cursor(),
            _ => None,
        };
        if self
            .subscription()
            .is_some_and(MultiSubscription::has_only_data)
        {
            return encode_heartbeat(position);
        }
        let mut opening = BytesMut::new();
        wire::opening(&mut opening, retry, position, comment);
        opening.freeze()
    }
}
