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
    channel::{Hub, Listener, MultiSubscription, Settlement, multi::Fetch},
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
pub(super) struct Parts {
    pub(super) settings: FanoutSettings,
    pub(super) hub: Hub,
    pub(super) pages: PageCache,
    pub(super) metrics: Metrics,
    pub(super) runtime: Handle,
}

/// A stream whose opening is out.
#[derive(Debug)]
pub struct Joining {
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
pub(super) struct Answer {
    pub(super) key: u32,
    /// Which of its questions this is the answer to.
    pub(super) ticket: u64,
    pub(super) what: Answered,
}

#[derive(Debug)]
pub(super) enum Answered {
    Page(Fetch, Result<SharedPage, BrokerError>),
    /// Nothing up to its end can come any more; these are the last ids of its channels.
    Settled(Vec<Settlement>),
}

/// What lies behind a door.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) joining: Vec<Joining>,
    /// Views of which a tail has changed.
    pub(super) changed: Vec<usize>,
    pub(super) answers: Vec<Answer>,
    /// All streams end, and those that still come.
    pub(super) is_stopping: bool,
    /// Nobody comes any more.
    pub(super) is_closed: bool,
    /// The thread was woken for what is here.
    is_woken: bool,
}

/// The door to one thread.
#[derive(Debug)]
pub(super) struct Door {
    post: Mutex<Post>,
    waker: mio::Waker,
    tickets: AtomicU64,
}

impl Door {
    pub(super) fn put(&self, put: impl FnOnce(&mut Post)) {
        let mut post = self.post();
        put(&mut post);
        if !std::mem::replace(&mut post.is_woken, true) {
            drop(post);
            if let Err(error) = self.waker.wake() {
                // It can only be out of kernel memory; the thread wakes by itself for its heartbeats.
                tracing::error!(%error, "a fan-out thread could not be woken");
                self.post().is_woken = false;
            }
        }
    }

    /// A number for a question, which no other has, of an earlier reactor neither.
    pub(super) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Post {
        let mut post = self.post();
        let (is_stopping, is_closed) = (post.is_stopping, post.is_closed);
        std::mem::replace(
            &mut *post,
            Post {
                is_stopping,
                is_closed,
                ..Post::default()
            },
        )
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        // It is consistent at every step.
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings at the door when a tail changes that a view is of.
#[derive(Debug)]
pub(super) struct ViewBell {
    door: Arc<Door>,
    view: usize,
    has_rung: AtomicBool,
}

impl ViewBell {
    pub(super) const fn new(door: Arc<Door>, view: usize) -> Self {
        Self {
            door,
            view,
            has_rung: AtomicBool::new(false),
        }
    }

    /// Call it before looking at the tails: a change during the look rings again.
    pub(super) fn reset(&self) {
        self.has_rung.store(false, Ordering::SeqCst);
    }
}

impl Listener for ViewBell {
    fn tail_changed(&self) {
        if !self.has_rung.swap(true, Ordering::SeqCst) {
            self.door.put(|post| post.changed.push(self.view));
        }
    }
}

/// The fan-out threads; clones share them.
#[derive(Debug, Clone)]
pub struct Fanout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    doors: Vec<Arc<Door>>,
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
        let parts = Parts {
            settings,
            hub,
            pages,
            metrics,
            runtime,
        };
        let (mut doors, mut handles) = (Vec::new(), Vec::new());
        for number in 0..threads.get() {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), WAKE)?;
            let door = Arc::new(Door {
                post: Mutex::default(),
                waker,
                tickets: AtomicU64::new(0),
            });
            doors.push(door.clone());
            let parts = parts.clone();
            let thread = std::thread::Builder::new().name(format!("fan-out {number}"));
            handles.push(thread.spawn(move || serve(poll, &door, &parts))?);
        }
        Ok(Self(Arc::new(Inner {
            doors,
            transition: AtomicUsize::new(0),
            threads: Mutex::new(handles),
        })))
    }

    /// Takes over a stream.
    pub fn join(&self, joining: Joining) {
        let transition = self.0.transition.fetch_add(1, Ordering::Relaxed) % self.0.doors.len();
        self.0.doors[transition].put(|post| post.joining.push(joining));
    }

    /// Ends all streams, and those that still come.
    pub fn end_streams(&self) {
        self.each(|post| post.is_stopping = true);
    }

    /// Waits for the end of the threads. Nobody may join any more.
    pub fn close(&self) {
        self.each(|post| post.is_closed = true);
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

    fn each(&self, put: impl Fn(&mut Post)) {
        for door in &self.0.doors {
            door.put(&put);
        }
    }
}

/// One thread. A defect in it costs its streams their connections (they come back with their last ids), not the server
/// its thread.
fn serve(mut poll: mio::Poll, door: &Arc<Door>, parts: &Parts) {
    loop {
        let reactor =
            AssertUnwindSafe(|| Reactor::new(&mut poll, door.clone(), parts.clone()).run());
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
