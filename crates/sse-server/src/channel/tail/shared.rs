//! The tail of a channel as the threads share it: frames behind a lock, and who is notified of changes.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak},
};

use smallvec::SmallVec;
use sse_proto::EventId;
use tokio::sync::watch;

use super::{Frames, TailLimits};
use crate::{broker::Stored, channel::TailMemory};

/// A receiver of change notifications, implemented in `fanout/mailbox`. It must only record the
/// notification, because the thread that feeds the tail waits for it.
pub trait TailListener: fmt::Debug + Send + Sync {
    /// Called after each change of the tail.
    fn tail_changed(&self);
}

/// The tail of a channel, shared by the task that feeds it and the subscribers.
#[derive(Debug)]
pub struct Tail {
    frames: Mutex<Frames>,
    /// Created for the first watcher, because it is larger than the rest of an empty tail.
    changed: OnceLock<watch::Sender<()>>,
    /// Usually one: the only view of the channel.
    listeners: Mutex<SmallVec<[Weak<dyn TailListener>; 1]>>,
}

impl Tail {
    /// An empty tail that is not joined to a log.
    #[must_use]
    pub fn new(limits: TailLimits, memory: TailMemory) -> Self {
        Self {
            frames: Mutex::new(Frames::in_memory(limits, memory)),
            changed: OnceLock::new(),
            listeners: Mutex::default(),
        }
    }

    /// Locks the frames. Hold the lock only to copy what is needed.
    pub fn frames(&self) -> MutexGuard<'_, Frames> {
        // Frames are consistent after every statement, so a panic of another thread does no harm.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver of every change from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed
            .get_or_init(|| watch::Sender::new(()))
            .subscribe()
    }

    /// Notifies `listener` of every change from now on, until it is dropped.
    pub fn listen(&self, listener: Weak<dyn TailListener>) {
        let mut listeners = self.listeners();
        if listeners.len() == listeners.capacity() {
            // A channel without events never calls `update`, so the list would grow forever.
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(listener);
    }

    /// Changes the frames, and then notifies all watchers and listeners.
    pub fn update(&self, change: impl FnOnce(&mut Frames)) {
        change(&mut self.frames());
        self.notify();
    }

    /// Appends a committed group if it continues the tail. Returns whether it did; the caller
    /// [notifies](Self::notify) then.
    ///
    /// A thread that reads the frames is not waited for: the group is not appended then.
    #[must_use]
    pub(in crate::channel) fn try_push_group(
        &self,
        previous: EventId,
        events: Vec<Stored>,
    ) -> bool {
        let mut frames = match self.frames.try_lock() {
            Ok(frames) => frames,
            // As in `frames`.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        frames.push_group(previous, events)
    }

    /// Notifies all watchers and listeners that the frames have changed.
    pub(in crate::channel) fn notify(&self) {
        if let Some(changed) = self.changed.get() {
            changed.send_replace(());
        }
        self.listeners().retain(|listener| {
            let listener = listener.upgrade();
            if let Some(listener) = &listener {
                listener.tail_changed();
            }
            listener.is_some()
        });
    }

    fn listeners(&self) -> MutexGuard<'_, SmallVec<[Weak<dyn TailListener>; 1]>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
