//! Writes to a client that accepts no data.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::DetachableSocket;
use crate::{
    connections::{CloseReason, Phase},
    fanout::{blocked_end::BlockedEnd, socket::AcceptedSocket, stall::retry_interval},
};

/// A time in which the client accepts no data.
pub(super) struct Stall {
    since: Instant,
    /// Time of the next attempt to write.
    next_attempt: Pin<Box<Sleep>>,
}

impl Stall {
    fn new(interval: Duration) -> Self {
        let since = Instant::now();
        Self {
            since,
            next_attempt: Box::pin(sleep_until(since + interval)),
        }
    }
}

impl DetachableSocket {
    /// Tries to write to a client that accepts no data, once per retry interval.
    ///
    /// The attempts are necessary because a socket becomes writable only when it has much room.
    /// Ready when an attempt succeeds or fails, or when the client is too slow.
    pub(super) fn poll_write_stalled(
        &self,
        cx: &mut Context<'_>,
        socket: &mut AcceptedSocket,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let interval = retry_interval(self.0.write_timeout);
        let mut stall = self.0.stall.borrow_mut();
        if stall.is_none() {
            // The client accepted data just now, so its rate is up to date.
            if self.0.progress.is_too_slow(socket.unsent_bytes_max()) {
                return Poll::Ready(Err(self.too_slow()));
            }
            *stall = Some(Stall::new(interval));
        }
        let Some(stall) = stall.as_mut() else {
            return Poll::Pending;
        };
        loop {
            ready!(stall.next_attempt.as_mut().poll(cx));
            match socket.write_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            if self.must_give_up(stall.since, socket) {
                return Poll::Ready(Err(self.too_slow()));
            }
            stall.next_attempt.as_mut().reset(Instant::now() + interval);
        }
    }

    /// Records that the client has accepted a part of a record just now.
    pub(super) fn restart_stall(&self) {
        if let Some(stall) = self.0.stall.borrow_mut().as_mut() {
            stall.since = Instant::now();
        }
    }

    /// Whether a client that has accepted nothing `since` then is unreachable, stalled or too slow.
    fn must_give_up(&self, since: Instant, socket: &AcceptedSocket) -> bool {
        let is_unreachable = self.is_unreachable();
        if is_unreachable {
            socket.reset_on_close();
        }
        let accepted = self.0.accepted.get();
        let unsent_max = socket.unsent_bytes_max();
        let stall_timeout = accepted.stall_timeout(self.0.write_timeout, unsent_max);
        is_unreachable
            || self.must_end()
            || since.elapsed() > stall_timeout
            || self.0.progress.is_too_slow(unsent_max)
    }

    /// Whether the stream must end although it is blocked. The reason is recorded.
    fn must_end(&self) -> bool {
        let reason = self.0.end.borrow().as_ref().and_then(BlockedEnd::reason);
        self.0.end_reason.set(reason);
        reason.is_some()
    }

    /// Returns the error of a client that is too slow, and counts the end of its connection.
    ///
    /// Streams are not counted here, because they have reasons of their own.
    fn too_slow(&self) -> io::Error {
        let progress = &self.0.progress;
        if progress.phase() != Phase::Stream {
            progress.with(|connection| connection.record_close(CloseReason::TooSlow));
        }
        io::ErrorKind::TimedOut.into()
    }
}
