//! The tokens of connections and streams that have to be polled.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// Tokens in the order in which they were woken. A token may be in the queue several times.
#[derive(Debug, Default)]
pub(crate) struct WakeQueue(Mutex<Vec<u32>>);

struct TokenWaker {
    queue: Arc<WakeQueue>,
    token: u32,
}

impl WakeQueue {
    /// Returns a waker that queues this token.
    pub(crate) fn waker(self: &Arc<Self>, token: u32) -> Waker {
        let queue = Arc::clone(self);
        Waker::from(Arc::new(TokenWaker { queue, token }))
    }

    /// Moves all tokens to `tokens`, which must be empty.
    pub(crate) fn take_all(&self, tokens: &mut Vec<u32>) {
        std::mem::swap(&mut *self.lock(), tokens);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for TokenWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue.lock().push(self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_queues_its_token() {
        let queue = Arc::new(WakeQueue::default());
        let (first, second) = (queue.waker(1), queue.waker(2));
        second.wake_by_ref();
        first.wake();
        let mut tokens = Vec::new();
        queue.take_all(&mut tokens);
        assert_eq!(tokens, [2, 1]);
        tokens.clear();
        queue.take_all(&mut tokens);
        assert!(tokens.is_empty());
    }
}
