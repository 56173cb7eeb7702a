//! The fan-out threads, and the door to each: how sockets, wake-ups and answers get to the one thread that may touch
//! them.

use std::{
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use sse_proto::EventId;
use tokio::runtime::Handle;

use super::{
    detach::Detached,
    page_cache::{PageCache, SharedPage},
    reactor::{Reactor, WAKE},
    view::Framing,
};
use crate::{
    broker::BrokerError,
    channel::{Hub, MultiSubscription, Settlement, TailListener, multi::Fetch},
    metrics::{Metrics, SubscriberGuard},
};

/// How the threads write.
#[derive(Debug, Clone, Copy)]
pub struct FanoutSettings {
    /// The least time from the end of one pass over a view to the next one.
    pub coalesce: Duration,
    /// Silence after which a comment is sent.
    pub heartbeat: Duration,
    /// A client that takes nothing for so long, although there is something for it, is closed.
    pub write_timeout: Duration,
}

/// What the threads work with.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) settings: FanoutSettings,
    pub(super) hub: Hub,
    pub(super) pages: PageCache,
    pub(super) metrics: Metrics,
    pub(super) runtime: Handle,
}

/// A stream whose opening is out.
#[derive(Debug)]
pub struct NewStream {
    /// Its socket.
    pub socket: Detached,
    /// How chunks go over it.
    pub framing: Framing,
    /// What it is sent.
    pub subscription: MultiSubscription,
    /// Where it ends.
    pub until: Option<EventId>,
    /// Counts it.
    pub guard: SubscriberGuard,
}

/// An answer that a stream waits for.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) key: u32,
    /// Which of its questions this is the answer to.
    pub(super) request_id: u64,
    pub(super) what: Completed,
}

#[derive(Debug)]
pub(super) enum Completed {
    Page(Fetch, Result<SharedPage, BrokerError>),
    /// Nothing up to its end can come any more; these are the last ids of its channels.
    Settled(Vec<Settlement>),
}

/// What lies behind a door.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) new_streams: Vec<NewStream>,
    /// Views of which a tail has changed.
    pub(super) changed_views: Vec<usize>,
    pub(super) completions: Vec<Completion>,
    /// All streams end, and those that still come.
    pub(super) is_stopping: bool,
    /// Nobody comes any more.
    pub(super) is_closed: bool,
    /// The thread was woken for what is here.
    is_woken: bool,
}

/// The door to one thread.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    waker: mio::Waker,
    next_request_id: AtomicU64,
}

impl Mailbox {
    pub(super) fn send(&self, fill: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.inbox();
        fill(&mut inbox);
        if !std::mem::replace(&mut inbox.is_woken, true) {
            drop(inbox);
            if let Err(error) = self.waker.wake() {
                // It can only be out of kernel memory; the thread wakes by itself for its heartbeats.
                tracing::error!(%error, "a fan-out thread could not be woken");
                self.inbox().is_woken = false;
            }
        }
    }

    /// A number for a question, which no other has, of an earlier reactor neither.
    pub(super) fn request_id(&self) -> u64 {
        self.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn drain(&self) -> Inbox {
        let mut inbox = self.inbox();
        let (is_stopping, is_closed) = (inbox.is_stopping, inbox.is_closed);
        std::mem::replace(
            &mut *inbox,
            Inbox {
                is_stopping,
                is_closed,
                ..Inbox::default()
            },
        )
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // It is consistent at every step.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings at the door when a tail changes that a view is of.
#[derive(Debug)]
pub(super) struct ViewWaker {
    mailbox: Arc<Mailbox>,
    view: usize,
    is_pending: AtomicBool,
}

impl ViewWaker {
    pub(super) const fn new(mailbox: Arc<Mailbox>, view: usize) -> Self {
        Self {
            mailbox,
            view,
            is_pending: AtomicBool::new(false),
        }
    }

    /// Call it before looking at the tails: a change during the look rings again.
    pub(super) fn reset(&self) {
        self.is_pending.store(false, Ordering::SeqCst);
    }
}

impl TailListener for ViewWaker {
    fn tail_changed(&self) {
        if !self.is_pending.swap(true, Ordering::SeqCst) {
            self.mailbox
                .send(|inbox| inbox.changed_views.push(self.view));
        }
    }
}

/// The fan-out threads; clones share them.
#[derive(Debug, Clone)]
pub struct Fanout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mailboxes: Vec<Arc<Mailbox>>,
    transition: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Fanout {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system has no more threads or event queues.
    pub fn start(
        threads: NonZeroUsize,
        settings: FanoutSettings,
        hub: Hub,
        pages: PageCache,
        metrics: Metrics,
        runtime: Handle,
    ) -> io::Result<Self> {
        let context = Context {
            settings,
            hub,
            pages,
            metrics,
            runtime,
        };
        let (mut mailboxes, mut handles) = (Vec::new(), Vec::new());
        for number in 0..threads.get() {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), WAKE)?;
            let mailbox = Arc::new(Mailbox {
                inbox: Mutex::default(),
                waker,
                next_request_id: AtomicU64::new(0),
            });
            mailboxes.push(mailbox.clone());
            let context = context.clone();
            let thread = std::thread::Builder::new().name(format!("fan-out {number}"));
            handles.push(thread.spawn(move || serve(poll, &mailbox, &context))?);
        }
        Ok(Self(Arc::new(Inner {
            mailboxes,
            transition: AtomicUsize::new(0),
            threads: Mutex::new(handles),
        })))
    }

    /// Takes over a stream.
    pub fn join(&self, new_streams: NewStream) {
        let transition = self.0.transition.fetch_add(1, Ordering::Relaxed) % self.0.mailboxes.len();
        self.0.mailboxes[transition].send(|inbox| inbox.new_streams.push(new_streams));
    }

    /// Ends all streams, and those that still come.
    pub fn end_streams(&self) {
        self.send_to_all(|inbox| inbox.is_stopping = true);
    }

    /// Waits for the end of the threads. Nobody may join any more.
    pub fn close(&self) {
        self.send_to_all(|inbox| inbox.is_closed = true);
        let threads = std::mem::take(
            &mut *self
                .0
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for thread in threads {
            // A panic in it was told where it happened.
            let _ = thread.join();
        }
    }

    fn send_to_all(&self, fill: impl Fn(&mut Inbox)) {
        for mailbox in &self.0.mailboxes {
            mailbox.send(&fill);
        }
    }
}

/// One thread. A defect in it costs its streams their connections (they come back with their last ids), not the server
/// its thread.
fn serve(mut poll: mio::Poll, mailbox: &Arc<Mailbox>, context: &Context) {
    loop {
        let reactor =
            AssertUnwindSafe(|| Reactor::new(&mut poll, mailbox.clone(), context.clone()).run());
        match catch_unwind(reactor) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, "a fan-out thread starts anew; its streams were closed")
            }
            Err(_) => tracing::error!(
                "a fan-out thread panicked and starts anew; its streams were closed"
            ),
        }
        // So that a defect that is there at once does not fill the log.
        std::thread::sleep(Duration::from_millis(100));
    }
}
