//! Sends the body of a response as far as the client has room.
//!
//! ```text
//!  body ─► chunk ─► one frame, as long as the windows have room ─► h2 ─► connection
//!            │
//!            └─ waits here while a window is full: counted in --blocked-bytes, and with a timer
//! ```
//!
//! The timer runs while a chunk waits, whatever the body does. A client that accepts nothing for too
//! long loses the stream, and so does one that may not read it any more. The connection stays open.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::body::{BoxBody, MessageBody as _};
use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::time::{Instant, sleep_until};

use super::{
    limits::{FRAME_BYTES, slowest_time},
    write_queue::WriteQueue,
};
use crate::fanout::{
    multiplexed::MultiplexedStream,
    stall::{BytesAccepted, UNSENT_BYTES},
};

/// The stream is reset, or its connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone;

/// A body that is being sent.
///
/// Its futures borrow it, because each future that owns it would have a copy in the task.
pub(super) struct BodySender {
    body: BoxBody,
    stream: SendStream<Bytes>,
    multiplexed: MultiplexedStream,
    queue: WriteQueue,
    write_timeout: Duration,
    /// Bytes that the client had room for.
    bytes: u64,
    /// The same, as the stall timeout counts them.
    accepted: BytesAccepted,
    /// When the client first had no room for more.
    blocked_since: Option<Instant>,
}

impl BodySender {
    pub(super) fn new(
        body: BoxBody,
        stream: SendStream<Bytes>,
        multiplexed: MultiplexedStream,
        queue: WriteQueue,
        write_timeout: Duration,
    ) -> Self {
        Self {
            body,
            stream,
            multiplexed,
            queue,
            write_timeout,
            bytes: 0,
            accepted: BytesAccepted::default(),
            blocked_since: None,
        }
    }

    /// Sends the body, and ends the stream.
    pub(super) async fn send(&mut self) {
        while let Ok(Some(chunk)) = self.next_chunk().await {
            if self.send_chunk(chunk).await.is_err() {
                return;
            }
        }
        // A stream that is gone needs no end.
        let _ = self.send_data(Bytes::new(), true);
    }

    /// Waits for the next chunk; returns `None` at the end of the body.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Gone> {
        let chunk = poll_fn(|cx| match self.stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Gone)),
            Poll::Pending => Pin::new(&mut self.body).poll_next(cx).map(Ok),
        });
        let chunk = chunk.await?.transpose();
        chunk.map_err(|_| self.reset(Reason::INTERNAL_ERROR))
    }

    async fn send_chunk(&mut self, mut chunk: Bytes) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < chunk.len() {
            let wanted = (chunk.len() - sent).min(FRAME_BYTES);
            self.stream.reserve_capacity(wanted);
            let room = self.wait_for_room(&mut chunk).await?;
            let part = sent..sent + room.min(wanted);
            sent = part.end;
            self.record_accepted(part.len());
            self.queue.add(part.len());
            self.send_data(frame(&chunk, part), false)?;
        }
        self.multiplexed.release_blocked();
        Ok(())
    }

    /// Waits until the client has room for a part of `chunk`, and returns the bytes that it has
    /// room for.
    async fn wait_for_room(&mut self, chunk: &mut Bytes) -> Result<usize, Gone> {
        let room = match poll_fn(|cx| Poll::Ready(self.poll_room(cx, chunk))).await {
            Poll::Ready(room) => room,
            // Boxed, because most streams never wait here, and the timer would be in each of them.
            Poll::Pending => Box::pin(self.wait_blocked(chunk)).await,
        };
        room.map_err(|reason| match reason {
            Some(reason) => self.reset(reason),
            None => Gone,
        })
    }

    async fn wait_blocked(&mut self, chunk: &mut Bytes) -> Result<usize, Option<Reason>> {
        let give_up = self.give_up_time(Instant::now());
        let multiplexed = self.multiplexed.clone();
        tokio::select! {
            biased;
            // A client that may read no more gets no room, even if it wants it at this moment.
            () = multiplexed.wait_until_ended() => Err(Some(Reason::CANCEL)),
            room = poll_fn(|cx| self.poll_room(cx, chunk)) => room,
            () = sleep_until(give_up) => {
                self.multiplexed.set_stalled();
                Err(Some(Reason::CANCEL))
            }
        }
    }

    /// Polls for room. While there is none, the chunk counts as blocked. The error is `None` if the
    /// stream is gone already.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<Result<usize, Option<Reason>>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(None));
        }
        match self.poll_windows(cx) {
            Poll::Ready(Ok(room)) if self.queue.poll_room(cx).is_ready() => {
                return Poll::Ready(Ok(room));
            }
            Poll::Ready(Err(Gone)) => return Poll::Ready(Err(None)),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        if self.multiplexed.hold_blocked(cx, chunk) {
            Poll::Pending
        } else {
            Poll::Ready(Err(Some(Reason::CANCEL)))
        }
    }

    /// Polls for room in the windows of the client.
    fn poll_windows(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
        Poll::Ready(Ok(self.stream.capacity()))
    }

    /// Returns when the client, which has no room from `now` on, is too slow.
    fn give_up_time(&mut self, now: Instant) -> Instant {
        let blocked_since = *self.blocked_since.get_or_insert(now);
        let accepted = self.accepted;
        let stalled = now + accepted.stall_timeout(self.write_timeout, UNSENT_BYTES);
        if self.multiplexed.is_stream() {
            stalled
        } else {
            stalled.min(blocked_since + slowest_time(self.bytes))
        }
    }

    fn record_accepted(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.accepted.add(bytes);
    }

    fn send_data(&mut self, bytes: Bytes, is_last: bool) -> Result<(), Gone> {
        self.stream.send_data(bytes, is_last).map_err(|_| Gone)
    }

    fn reset(&mut self, reason: Reason) -> Gone {
        self.stream.send_reset(reason);
        Gone
    }
}

/// Returns a part of a chunk as a frame.
///
/// The part of a large chunk is copied, so that the chunk is free once it is sent, even if `h2`
/// cannot write its last frame.
fn frame(chunk: &Bytes, part: std::ops::Range<usize>) -> Bytes {
    if chunk.len() <= FRAME_BYTES {
        chunk.slice(part)
    } else {
        Bytes::copy_from_slice(&chunk[part])
    }
}
