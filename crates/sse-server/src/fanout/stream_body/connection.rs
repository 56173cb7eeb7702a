//! What the body of a stream and its connection do for each other.

use std::{io, mem};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Driver, state::State};
use crate::fanout::{
    attached::AttachedStream, blocked_end::BlockedEnd, detach::DetachableSocket,
    mailbox::NewStream, multiplexed::MultiplexedStream,
};

impl Driver {
    /// Whether the keys of TLS must not encrypt more.
    pub(super) fn is_worn_out(&self) -> bool {
        let multiplexed = self.multiplexed.as_ref();
        multiplexed.is_some_and(MultiplexedStream::is_worn_out)
            || self
                .socket
                .as_ref()
                .is_some_and(DetachableSocket::is_worn_out)
    }

    /// Lets the connection end the stream while it is blocked, when this body is not polled.
    pub(super) fn watch_blocked(&self) {
        let end = || BlockedEnd::new(&self.guard, self.state.channels());
        match (&self.multiplexed, &self.socket) {
            (Some(multiplexed), _) => multiplexed.set_end(end()),
            (None, Some(socket)) => socket.set_end(end()),
            (None, None) => {}
        }
    }

    /// Lets the sweep report that the client is unreachable.
    pub(super) fn watch_socket(&mut self) {
        if self.attached_socket.is_none()
            && let Some(socket) = &self.socket
        {
            self.attached_socket = socket.watch(&self.streams.attached_sockets);
        }
    }

    /// Returns the token that is cancelled when the client is found unreachable.
    pub(super) fn unreachable(&self) -> Option<CancellationToken> {
        let attached_socket = self.attached_socket.as_ref()?;
        Some(attached_socket.unreachable().clone())
    }

    /// Makes a ready stream an attached one.
    pub(super) fn attach(&mut self) {
        if matches!(self.state, State::Ready(_))
            && let State::Ready(subscription) = mem::replace(&mut self.state, State::Detached)
        {
            let attached = AttachedStream::new(
                &self.streams,
                subscription,
                self.until,
                self.searcher.clone(),
                self.page.clone(),
                self.guard.caller().cloned(),
                self.starting.take(),
            );
            self.state = State::Attached(Box::new(attached));
            self.reserved = None;
            self.watch_blocked();
        }
    }

    /// Hands the socket to a fan-out thread, with everything that belongs to the stream.
    ///
    /// Returns a byte for actix. Its write fails, because the connection is empty then, and actix
    /// drops the connection and this body.
    pub(super) async fn detach(&mut self) -> io::Result<Bytes> {
        let state = mem::replace(&mut self.state, State::Detached);
        self.attached_socket = None;
        if let (State::Ready(subscription), Some((handover, fanout))) =
            (state, self.handover.take())
            && let Some(socket) = handover.socket.detach().await?
        {
            fanout.add_stream(NewStream {
                socket,
                coding: handover.coding,
                subscription,
                until: self.until,
                guard: self.guard.transfer(),
                reserved: self.reserved.take(),
            });
            self.starting = None;
        }
        Ok(Bytes::from_static(b":"))
    }
}
