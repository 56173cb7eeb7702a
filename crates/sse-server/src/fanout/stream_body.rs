//! A stream as the body of an HTTP response, which is how every stream starts.
//!
//! The body goes through these states:
//!
//! ```text
//!  Starting ──► Ready ──┬──► Detached    the fan-out thread has the socket
//!  (position            │
//!   unknown)            └──► Attached    the body serves the stream to its end
//! ```
//!
//! [`start_subscription`](super::start::start_subscription) waits at most half a second for the
//! start position. The opening is then sent at once, even if the position is still unknown.
//!
//! `AttachedStream` decides what an attached stream sends. Its heartbeats and its end at shutdown
//! are here. A body that is not polled, because the socket is full, does nothing and holds at most
//! one chunk.

mod connection;
mod ending;
mod state;

use actix_web::body::{BodyStream, MessageBody};
use bytes::Bytes;
use futures::stream;
use sse_proto::EventId;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::state::State;
use super::{
    attached_list::AttachedEntry,
    attached_sockets::AttachedSocket,
    detach::DetachableSocket,
    multiplexed::MultiplexedStream,
    open_stream::{Handover, OpenStream},
    page_slot::PageSlot,
    shared_state::encode_heartbeat,
    stream_guard::{CloseReason, StreamGuard},
    streams::Streams,
    thread::Fanout,
};
use crate::channel::{ReservedChannels, Searcher};

/// Creates the body of a stream.
///
/// With a `handover` and fan-out threads the body ends when a thread has taken the socket.
/// Otherwise it ends with `streams.stopping`, or when no event up to `until` can appear any more.
/// `comment` is the text of the opening's first comment.
#[must_use]
pub fn stream_body(
    streams: Streams,
    OpenStream {
        subscription,
        until,
        guard,
        reserved,
        searcher,
        handover,
        multiplexed,
        starting,
    }: OpenStream,
    comment: &str,
) -> impl MessageBody + use<> {
    let state = State::from(subscription);
    let opening = state.encode_opening(streams.settings.retry, comment);
    let socket = handover.as_ref().map(|handover| handover.socket.clone());
    let page = PageSlot::default();
    if let Some(socket) = &socket {
        socket.start_stream();
        let client = guard.client().or_else(|| socket.peer_net());
        socket.count_blocked(streams.blocked.clone(), client, page.clone());
    }
    if let Some(multiplexed) = &multiplexed {
        multiplexed.count_blocked(streams.blocked.clone(), page.clone());
    }
    let handover = handover.filter(|handover| handover.may_detach);
    let handover = handover.and_then(|handover| Some((handover, streams.fanout.clone()?)));
    // The driver is boxed, because `unfold` moves it with every chunk.
    let driver = Box::new(Driver {
        streams,
        state,
        until,
        socket,
        multiplexed,
        page,
        attached_socket: None,
        handover,
        opening: Some(opening),
        guard,
        reserved: Some(reserved),
        searcher,
        last_write: Instant::now(),
        is_ending: false,
        is_draining: false,
        starting,
        close_reason: CloseReason::Client,
    });
    if driver.handover.is_none() {
        driver.watch_blocked();
    }
    BodyStream::new(stream::unfold(driver, |mut driver| async move {
        match driver.next().await {
            Next::Send(bytes) => Some((Ok(bytes), driver)),
            Next::End => None,
            Next::Detach => Some((driver.detach().await, driver)),
        }
    }))
}

/// Drives one stream as a body.
struct Driver {
    streams: Streams,
    state: State,
    until: Option<EventId>,
    /// Connection of the response; `None` if `server/transport` did not accept it.
    socket: Option<DetachableSocket>,
    /// The stream as its connection knows it, if the connection carries other requests as well.
    multiplexed: Option<MultiplexedStream>,
    /// Page read in flight, which the connection drops when the socket is full.
    page: PageSlot,
    /// `None` until the body waits, and after a detach.
    attached_socket: Option<AttachedSocket>,
    /// `None` if the stream stays attached.
    handover: Option<(Handover, Fanout)>,
    /// `None` once it is sent.
    opening: Option<Bytes>,
    guard: StreamGuard,
    /// Keeps the channels until the stream has joined them.
    reserved: Option<ReservedChannels>,
    searcher: Searcher,
    last_write: Instant,
    /// The last bytes are sent.
    is_ending: bool,
    is_draining: bool,
    /// Lists the stream until it is listed where it is served.
    starting: Option<AttachedEntry>,
    /// Reported on drop. The default is `Client`: actix drops the body when the client is gone.
    close_reason: CloseReason,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A blocked write of an unreachable client fails, and then actix drops the body.
        let unreachable = self.unreachable();
        if unreachable.is_some_and(|token| token.is_cancelled()) {
            self.close_reason = CloseReason::Unreachable;
        }
        if self
            .socket
            .as_ref()
            .is_some_and(DetachableSocket::is_evicted)
        {
            self.close_reason = CloseReason::BlockedBytes;
        }
        let multiplexed = self.multiplexed.as_ref();
        if let Some(reason) = multiplexed.and_then(MultiplexedStream::close_reason) {
            self.close_reason = reason;
        }
        if let Some(reason) = self.socket.as_ref().and_then(DetachableSocket::end_reason) {
            self.close_reason = reason;
        }
        // This has no effect after a detach, which takes the count out of the guard.
        self.guard.set_close_reason(self.close_reason);
        self.guard.record_end(self.state.sent_cursor(), 0);
    }
}

/// What the body does next.
enum Next {
    /// Sends these bytes, at least one.
    Send(Bytes),
    /// Hands the socket to a fan-out thread.
    Detach,
    End,
}

impl Driver {
    async fn next(&mut self) -> Next {
        if let Some(opening) = self.opening.take() {
            return self.send(opening, 0);
        }
        if self.is_ending {
            return Next::End;
        }
        match self.state {
            State::Ready(_) if self.handover.is_some() => return Next::Detach,
            // After an end, actix would handle the requests that were sent behind this one.
            State::Detached => return std::future::pending().await,
            _ => {}
        }
        if self.is_worn_out() {
            return self.end(CloseReason::TlsKeysUsed);
        }
        self.watch_socket();
        loop {
            // A busy stream always has a next chunk, so this is not left to the wait.
            let now = Instant::now();
            if let Some(reason) = self.guard.due_end(now.into_std()) {
                return self.end_early(reason);
            }
            if let Some(warning) = self.warn(now.into_std()) {
                return warning;
            }
            if let Some(next) = self.wait().await {
                return next;
            }
        }
    }

    /// Waits for what the body does next. Returns `None` if only the stream's deadline may have
    /// changed, or has come.
    async fn wait(&mut self) -> Option<Next> {
        let unreachable = self.unreachable();
        let caller_ends = self.wait_until_caller_ends();
        let (stopping, drain) = (self.streams.stopping.clone(), self.streams.drain.clone());
        let heartbeat_due = self.last_write + self.streams.settings.heartbeat;
        let moment = self.guard.next_moment().map(Instant::from_std);
        let wake_up_at = moment.map_or(heartbeat_due, |at| at.min(heartbeat_due));
        let is_draining = self.is_draining;
        Some(tokio::select! {
            biased;
            () = stopping.cancelled() => self.end_early(CloseReason::Shutdown),
            () = wait_until_cancelled(unreachable) => self.abort(),
            reason = caller_ends => self.end_early(reason),
            () = drain.started(), if !is_draining => {
                self.is_draining = true;
                self.guard.plan_drain(&drain, Instant::now().into_std());
                self.watch_blocked();
                return None;
            }
            chunk = self.next_chunk() => match chunk {
                Some((bytes, events)) => self.send(bytes, events),
                None => self.end(CloseReason::UntilReached),
            },
            () = sleep_until(wake_up_at) => {
                if wake_up_at < heartbeat_due {
                    return None;
                }
                self.send_heartbeat()
            }
        })
    }

    /// Waits until the caller may no longer read, or for ever without access rules.
    fn wait_until_caller_ends(&self) -> impl Future<Output = CloseReason> + use<> {
        let caller = self.guard.caller().cloned();
        let channels = caller.as_ref().map(|_| self.state.channels());
        async move {
            match (caller, channels) {
                (Some(caller), Some(channels)) => caller.wait_until_ended(&channels).await,
                _ => std::future::pending().await,
            }
        }
    }

    /// Waits for the next chunk and its number of events. Returns `None` when the stream is over.
    ///
    /// The future may be dropped before it is ready; the next call continues its work.
    async fn next_chunk(&mut self) -> Option<(Bytes, usize)> {
        if let State::Starting(starting) = &mut self.state {
            let subscription = starting.await;
            // The opening could not contain the position.
            let position = encode_heartbeat(subscription.opening_cursor());
            self.state = State::Ready(subscription);
            return Some((position, 0));
        }
        self.attach();
        match &mut self.state {
            State::Attached(attached) => attached.next_chunk(&mut self.guard).await,
            _ => None,
        }
    }

    fn send_heartbeat(&mut self) -> Next {
        let bytes = match &mut self.state {
            State::Starting(_) | State::Detached => encode_heartbeat(None::<EventId>),
            State::Ready(subscription) => encode_heartbeat(subscription.take_unsent_cursor()),
            State::Attached(attached) => attached.heartbeat(),
        };
        self.send(bytes, 0)
    }

    fn send(&mut self, bytes: Bytes, events: usize) -> Next {
        self.last_write = Instant::now();
        self.guard.record_delivery(events, bytes.len());
        Next::Send(bytes)
    }
}

/// Waits until the token is cancelled, or for ever if there is none.
async fn wait_until_cancelled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled_owned().await,
        None => std::future::pending().await,
    }
}
