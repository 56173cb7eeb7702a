//! The lines that wait for the writer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Most lines that wait.
pub(super) const LINES_MAX: usize = 16 << 10;
/// Most bytes of these lines.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Pause before the next attempt to close a queue that is full.
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

enum Message {
    Line(Box<[u8]>),
    /// The writer ends, and drops the sender when everything is written.
    Close(SyncSender<()>),
}

/// What the writer receives.
pub(super) enum Received {
    /// A line with its end.
    Line(Box<[u8]>),
    /// Nothing for now.
    Nothing,
    /// The queue is closed. The writer drops the sender when it has written everything.
    Closed(Option<SyncSender<()>>),
}

/// The end of the queue for threads that serve requests.
pub(super) struct LineSender {
    lines: SyncSender<Message>,
    bytes: Arc<AtomicUsize>,
}

/// The end of the queue for the writer.
pub(super) struct LineReceiver {
    lines: Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

/// Creates an empty queue.
pub(super) fn line_queue() -> (LineSender, LineReceiver) {
    let (sender, receiver) = sync_channel(LINES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let sender = LineSender {
        lines: sender,
        bytes: bytes.clone(),
    };
    let receiver = LineReceiver {
        lines: receiver,
        bytes,
    };
    (sender, receiver)
}

impl LineSender {
    /// Adds a line. Returns `false` if the queue is full or closed. It never waits.
    pub(super) fn send(&self, line: Box<[u8]>) -> bool {
        let length = line.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let is_sent = before < BYTES_MAX && self.lines.try_send(Message::Line(line)).is_ok();
        if !is_sent {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        is_sent
    }

    /// Waits up to `patience` until the writer has written everything and ended.
    pub(super) fn close(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        let (finished, written) = sync_channel(0);
        let mut message = Message::Close(finished);
        while let Err(TrySendError::Full(unsent)) = self.lines.try_send(message) {
            if Instant::now() >= give_up {
                return;
            }
            message = unsent;
            thread::sleep(CLOSE_PAUSE);
        }
        // A writer that is blocked, by a pipe that is not read, ends with the process.
        let _ = written.recv_timeout(give_up.saturating_duration_since(Instant::now()));
    }
}

impl LineReceiver {
    /// Waits up to `patience` for a line.
    pub(super) fn wait(&self, patience: Duration) -> Received {
        match self.lines.recv_timeout(patience) {
            Ok(message) => self.receive(message),
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::Closed(None),
        }
    }

    /// Returns a line that is there already.
    pub(super) fn next(&self) -> Received {
        match self.lines.try_recv() {
            Ok(message) => self.receive(message),
            Err(TryRecvError::Empty) => Received::Nothing,
            Err(TryRecvError::Disconnected) => Received::Closed(None),
        }
    }

    fn receive(&self, message: Message) -> Received {
        match message {
            Message::Line(line) => {
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                Received::Line(line)
            }
            Message::Close(finished) => Received::Closed(Some(finished)),
        }
    }
}
