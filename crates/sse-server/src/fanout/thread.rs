//! Fan-out threads: their start, their streams and their end.
//!
//! Each thread runs one `Reactor` and is reached through its `Mailbox`. Streams are distributed
//! over the threads in turn and never move to another thread.

use std::{
    collections::HashSet,
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

pub use super::reactor::{Context as FanoutContext, FanoutSettings};
use super::{
    mailbox::{Inbox, Mailbox, NewStream, StreamInfo},
    reactor::Reactor,
    socket::SocketCookie,
};

/// Pause before a reactor that failed is started again, so that a defect which shows at once does
/// not fill the log.
const RESTART_INTERVAL: Duration = Duration::from_millis(100);

/// The fan-out threads; clones share them.
#[derive(Debug, Clone)]
pub struct Fanout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mailboxes: Vec<Arc<Mailbox>>,
    next_mailbox: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Fanout {
    /// Starts `threads` threads, whose tasks run on the runtime of `context`.
    ///
    /// # Errors
    ///
    /// The system has no more threads or event queues.
    pub fn start(threads: NonZeroUsize, context: &FanoutContext) -> io::Result<Self> {
        let (mut mailboxes, mut handles) = (Vec::new(), Vec::new());
        for number in 0..threads.get() {
            let poll = mio::Poll::new()?;
            let mailbox = Arc::new(Mailbox::new(poll.registry())?);
            mailboxes.push(mailbox.clone());
            let context = context.clone();
            let thread = std::thread::Builder::new().name(format!("fan-out {number}"));
            handles.push(thread.spawn(move || run_reactors(poll, &mailbox, &context))?);
        }
        Ok(Self(Arc::new(Inner {
            mailboxes,
            next_mailbox: AtomicUsize::new(0),
            threads: Mutex::new(handles),
        })))
    }

    /// Hands a stream to the next thread.
    pub fn add_stream(&self, stream: NewStream) {
        let count = self.0.next_mailbox.fetch_add(1, Ordering::Relaxed);
        let mailbox = &self.0.mailboxes[count % self.0.mailboxes.len()];
        mailbox.send(|inbox| inbox.new_streams.push(stream));
    }

    /// Lists the streams of all threads.
    ///
    /// Each thread lists its streams between two rounds, so the list is not one moment's. Attached
    /// streams belong to no thread.
    pub async fn list_streams(&self) -> Vec<StreamInfo> {
        let mut lists = Vec::new();
        for mailbox in &self.0.mailboxes {
            let (sender, list) = oneshot::channel();
            mailbox.send(|inbox| {
                // A thread that is about to end never answers.
                if !inbox.is_closed {
                    inbox.list_requests.push(sender);
                }
            });
            lists.push(list);
        }
        let mut streams = Vec::new();
        for list in lists {
            streams.extend(list.await.unwrap_or_default());
        }
        streams
    }

    /// Closes the streams on these sockets, whose clients are unreachable.
    pub fn close_unreachable(&self, cookies: &Arc<HashSet<SocketCookie>>) {
        self.send_to_all(|inbox| inbox.unreachable = Some(cookies.clone()));
    }

    /// Lets each thread begin a round, which it counts.
    pub fn wake(&self) {
        self.send_to_all(|_| {});
    }

    /// Returns how many rounds each thread has begun.
    #[must_use]
    pub fn rounds(&self) -> Vec<u64> {
        self.0
            .mailboxes
            .iter()
            .map(|mailbox| mailbox.rounds())
            .collect()
    }

    /// Lets the streams end within the time of the drain, which has begun.
    pub fn start_drain(&self) {
        // The threads see that it has begun whenever they are awake.
        self.send_to_all(|_| {});
    }

    /// Ends all streams, including those that are added later.
    pub fn end_streams(&self) {
        self.send_to_all(|inbox| inbox.is_stopping = true);
    }

    /// Waits for the end of the threads. No stream may be added any more.
    pub fn close(&self) {
        self.send_to_all(|inbox| inbox.is_closed = true);
        let threads = self.0.threads.lock();
        let threads = std::mem::take(&mut *threads.unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // `run_reactors` has logged the panic of a thread.
            let _ = thread.join();
        }
    }

    fn send_to_all(&self, add: impl Fn(&mut Inbox)) {
        for mailbox in &self.0.mailboxes {
            mailbox.send(&add);
        }
    }
}

/// Runs a reactor until the mailbox is closed, and a new one if the reactor fails.
///
/// A defect closes the connections of the thread's streams, whose clients resume with their last
/// event ids. The defect must not end the thread, because later streams need it.
fn run_reactors(mut poll: mio::Poll, mailbox: &Arc<Mailbox>, context: &FanoutContext) {
    loop {
        let reactor =
            AssertUnwindSafe(|| Reactor::new(&mut poll, mailbox.clone(), context.clone()).run());
        match catch_unwind(reactor) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, "a fan-out thread restarts; its streams were closed");
            }
            Err(_) => {
                tracing::error!("a fan-out thread panicked and restarts; its streams were closed");
            }
        }
        std::thread::sleep(RESTART_INTERVAL);
    }
}

#[cfg(test)]
mod tests;
