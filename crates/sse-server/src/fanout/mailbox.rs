//! Mailbox of a fan-out thread.
//!
//! Only the fan-out thread may touch the sockets of its streams. Other threads send work through a
//! [`Mailbox`]: new streams, changed views, completed reads, requests for a list, unreachable
//! clients and blocked streams to close. The fan-out thread drains the mailbox once per round, and the
//! [`reactor`](super::reactor) handles the messages.
//!
//! Sending never waits for the fan-out thread. The mailbox needs no limit of its own: admission
//! limits new streams, a view has at most one pending notification, a stream has at most one page
//! read, one wait for its end and one request to close it in flight, and a set of unreachable clients
//! replaces the last one.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{Registry, Token};
use sse_proto::{Channel, EventId};
use tokio::sync::oneshot;

use super::{
    detach::DetachedSocket, page_cache::SharedPage, shared_state::TransferCoding,
    socket::SocketCookie, stream_caller::StreamCaller, stream_guard::StreamGuard,
};
use crate::{
    broker::BrokerError,
    channel::{MultiSubscription, ReservedChannels, Settlement, TailListener, multi::Fetch},
};

/// Token of the event that wakes a thread for its mailbox.
pub(super) const WAKE: Token = Token(usize::MAX);

/// A stream whose opening is written, for a fan-out thread to take over.
#[derive(Debug)]
pub struct NewStream {
    /// Socket of the client.
    pub socket: DetachedSocket,
    /// How the body goes over the connection.
    pub coding: TransferCoding,
    /// What the client must be sent.
    pub subscription: MultiSubscription,
    /// Last event id of the stream; `None` if the stream has no end.
    pub until: Option<EventId>,
    /// Counts the stream.
    pub guard: StreamGuard,
    /// Keeps the channels until the stream has joined them.
    pub reserved: Option<ReservedChannels>,
}

/// What a stream is, for an operator.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// Channels of the stream, in the order of its cursor.
    pub channels: Vec<Channel>,
    /// The stream is served from history, because it fell behind the tail.
    pub is_behind_tail: bool,
    /// Time of the oldest position, in milliseconds since the Unix epoch: everything before it was
    /// sent.
    pub position_ms: u64,
    /// Who opened the stream; `None` without access rules.
    pub caller: Option<Arc<StreamCaller>>,
}

impl StreamInfo {
    pub(super) fn of(subscription: &MultiSubscription, caller: Option<Arc<StreamCaller>>) -> Self {
        let positions = subscription.positions();
        Self {
            channels: subscription.channels().cloned().collect(),
            is_behind_tail: subscription.is_behind(),
            position_ms: positions
                .map(|(_, position)| position.floor().ms)
                .min()
                .unwrap_or_default(),
            caller,
        }
    }
}

/// End of a task that a stream waits for.
#[derive(Debug)]
pub(super) struct Completion {
    /// Key of the stream. Another stream may have the key by now.
    pub(super) key: u32,
    /// Identifies the request. The completion is ignored if its stream no longer waits for it.
    pub(super) request_id: u64,
    pub(super) result: CompletionResult,
}

#[derive(Debug)]
pub(super) enum CompletionResult {
    /// A page of history was read.
    Page(Fetch, Result<SharedPage, BrokerError>),
    /// No event up to `until` can appear any more; this is how each channel ends there.
    Settled(Vec<Settlement>),
}

/// Messages for a fan-out thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) new_streams: Vec<NewStream>,
    /// Keys of views of which a tail has changed.
    pub(super) changed_views: Vec<usize>,
    pub(super) completions: Vec<Completion>,
    pub(super) list_requests: Vec<oneshot::Sender<Vec<StreamInfo>>>,
    /// Sockets whose clients are unreachable, of this thread and of others.
    pub(super) unreachable: Option<Arc<HashSet<SocketCookie>>>,
    /// Streams to close because blocked streams hold too much: the key of each, and the id of its
    /// blocked write.
    pub(super) evicted: Vec<(u32, u64)>,
    /// All streams end, including new ones.
    pub(super) is_stopping: bool,
    /// No stream is sent any more, and the thread may end.
    pub(super) is_closed: bool,
    thread: ThreadState,
}

/// What the thread of a mailbox does.
#[derive(Debug, Default, PartialEq, Eq)]
enum ThreadState {
    /// It is awake, and has all messages.
    #[default]
    Awake,
    /// It is awake, and there are messages since the last [`Mailbox::drain`].
    HasMessages,
    /// It sleeps until it is woken, or until a socket or a time wakes it.
    Asleep,
}

/// The inbox of one fan-out thread, with the waker that interrupts its poll.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    waker: mio::Waker,
    next_request_id: AtomicU64,
    /// How often the thread has drained the inbox.
    rounds: AtomicU64,
}

impl Mailbox {
    /// Creates a mailbox that wakes the thread which polls `registry`.
    ///
    /// # Errors
    ///
    /// The system has no more event queues.
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        Ok(Self {
            inbox: Mutex::default(),
            waker: mio::Waker::new(registry, WAKE)?,
            next_request_id: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
        })
    }

    /// Lets `add` put a message in the inbox, and wakes the thread unless it is awake already.
    pub(super) fn send(&self, add: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock_inbox();
        add(&mut inbox);
        if std::mem::replace(&mut inbox.thread, ThreadState::HasMessages) != ThreadState::Asleep {
            return;
        }
        drop(inbox);
        if let Err(error) = self.waker.wake() {
            // The kernel is out of memory. The thread wakes for its heartbeats and drains then.
            tracing::error!(%error, "a fan-out thread could not be woken");
            self.lock_inbox().thread = ThreadState::Asleep;
        }
    }

    /// Announces that the thread is about to sleep, so that the next message wakes it. Returns `false`
    /// if there are messages, which the thread must drain first.
    pub(super) fn prepare_sleep(&self) -> bool {
        let mut inbox = self.lock_inbox();
        let may_sleep = inbox.thread != ThreadState::HasMessages;
        if may_sleep {
            inbox.thread = ThreadState::Asleep;
        }
        may_sleep
    }

    /// Returns a request id that is unique, even across restarts of the reactor.
    pub(super) fn new_request_id(&self) -> u64 {
        self.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    /// How often the thread has drained the mailbox, which it does once per round.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Takes all messages. The flags `is_stopping` and `is_closed` remain set.
    pub(super) fn drain(&self) -> Inbox {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let mut inbox = self.lock_inbox();
        let emptied = Inbox {
            is_stopping: inbox.is_stopping,
            is_closed: inbox.is_closed,
            ..Inbox::default()
        };
        std::mem::replace(&mut *inbox, emptied)
    }

    fn lock_inbox(&self) -> MutexGuard<'_, Inbox> {
        // The inbox is consistent after every statement that changes it.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A moment before all changes.
static CLOCK_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Notifies a fan-out thread when a tail of a view changes.
///
/// Only the first change since [`reset`](Self::reset) sends a message.
#[derive(Debug)]
pub(super) struct ViewWaker {
    mailbox: Arc<Mailbox>,
    view: usize,
    is_pending: AtomicBool,
    /// When the first change was, in nanoseconds since [`CLOCK_START`]; zero if there is none.
    changed_at: AtomicU64,
}

impl ViewWaker {
    pub(super) const fn new(mailbox: Arc<Mailbox>, view: usize) -> Self {
        Self {
            mailbox,
            view,
            is_pending: AtomicBool::new(false),
            changed_at: AtomicU64::new(0),
        }
    }

    /// Lets the next change notify again. Returns when the first change since the last call was.
    ///
    /// Reset before reading the tails: the other order loses a change between the two.
    pub(super) fn reset(&self) -> Option<Instant> {
        let nanoseconds = self.changed_at.swap(0, Ordering::Relaxed);
        self.is_pending.store(false, Ordering::SeqCst);
        let since = (nanoseconds > 0).then_some(Duration::from_nanos(nanoseconds))?;
        CLOCK_START.checked_add(since)
    }
}

impl TailListener for ViewWaker {
    fn tail_changed(&self) {
        if !self.is_pending.swap(true, Ordering::SeqCst) {
            let now = u64::try_from(CLOCK_START.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.changed_at.store(now, Ordering::Relaxed);
            self.mailbox
                .send(|inbox| inbox.changed_views.push(self.view));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> (mio::Poll, Arc<Mailbox>) {
        let poll = mio::Poll::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(poll.registry()).unwrap());
        (poll, mailbox)
    }

    #[test]
    fn a_view_sends_one_message_for_all_changes_until_it_is_reset() {
        let (_poll, mailbox) = mailbox();
        let waker = ViewWaker::new(mailbox.clone(), 7);
        waker.tail_changed();
        waker.tail_changed();
        assert_eq!(mailbox.drain().changed_views, [7]);
        waker.tail_changed();
        assert!(mailbox.drain().changed_views.is_empty());
        assert!(waker.reset().is_some() && waker.reset().is_none());
        waker.tail_changed();
        assert_eq!(mailbox.drain().changed_views, [7]);
    }

    #[test]
    fn a_thread_is_woken_only_if_it_sleeps_and_does_not_sleep_on_a_message() {
        let (mut poll, mailbox) = mailbox();
        let mut is_woken = || {
            let mut events = mio::Events::with_capacity(1);
            poll.poll(&mut events, Some(std::time::Duration::ZERO))
                .unwrap();
            !events.is_empty()
        };
        mailbox.send(|inbox| inbox.changed_views.push(1));
        assert!(!is_woken() && !mailbox.prepare_sleep());
        mailbox.drain();
        assert!(mailbox.prepare_sleep());
        mailbox.send(|inbox| inbox.changed_views.push(2));
        mailbox.send(|inbox| inbox.changed_views.push(3));
        assert!(is_woken() && !is_woken() && !mailbox.prepare_sleep());
        assert_eq!(mailbox.drain().changed_views, [2, 3]);
    }

    #[test]
    fn a_drained_mailbox_is_empty_but_still_stopping() {
        let (_poll, mailbox) = mailbox();
        mailbox.send(|inbox| inbox.changed_views.push(1));
        mailbox.send(|inbox| inbox.is_stopping = true);
        let first = mailbox.drain();
        assert!(first.is_stopping && first.changed_views == [1]);
        let second = mailbox.drain();
        assert!(second.is_stopping && second.changed_views.is_empty() && !second.is_closed);
    }
}
