//! The attached streams of a server, for a list of all streams.
//!
//! A fan-out thread lists its streams itself. Attached streams are spread over the worker threads
//! of actix, so each of them has an entry here until it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::{mailbox::StreamInfo, stream_caller::StreamCaller};
use crate::channel::MultiSubscription;

/// The attached streams; clones share the list.
#[derive(Debug, Clone, Default)]
pub struct AttachedList(Arc<Mutex<Slab<StreamInfo>>>);

impl AttachedList {
    /// Adds a stream, which is listed until the entry is dropped.
    pub(super) fn add(
        &self,
        subscription: &MultiSubscription,
        caller: Option<Arc<StreamCaller>>,
    ) -> AttachedEntry {
        let info = StreamInfo::of(subscription, caller);
        AttachedEntry {
            is_behind_tail: info.is_behind_tail,
            key: self.lock().insert(info),
            list: self.clone(),
        }
    }

    /// The streams, in no order.
    pub(super) fn streams(&self) -> Vec<StreamInfo> {
        self.lock().iter().map(|(_, info)| info.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<StreamInfo>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of one stream.
#[derive(Debug)]
pub(super) struct AttachedEntry {
    list: AttachedList,
    key: usize,
    is_behind_tail: bool,
}

impl AttachedEntry {
    /// Records whether the stream is behind the tail, and from which time on.
    pub(super) fn update(&mut self, subscription: &MultiSubscription) {
        let is_behind_tail = subscription.is_behind();
        if is_behind_tail == self.is_behind_tail {
            return;
        }
        self.is_behind_tail = is_behind_tail;
        if let Some(info) = self.list.lock().get_mut(self.key) {
            *info = StreamInfo::of(subscription, info.caller.take());
        }
    }
}

impl Drop for AttachedEntry {
    fn drop(&mut self) {
        self.list.lock().try_remove(self.key);
    }
}
