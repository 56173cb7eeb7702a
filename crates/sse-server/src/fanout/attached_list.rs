//! The streams that no fan-out thread has: attached ones, and those that are being opened.
//!
//! A fan-out thread lists its streams itself. Attached streams are spread over the worker threads
//! of actix, so each of them has an entry here until it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use sse_proto::Channel;

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
        self.insert(StreamInfo::of(subscription, caller))
    }

    /// Adds a stream that is being opened, so that an operator can close it before it is served.
    pub(crate) fn add_starting(
        &self,
        channels: Vec<Channel>,
        caller: Arc<StreamCaller>,
    ) -> AttachedEntry {
        self.insert(StreamInfo {
            channels,
            is_behind_tail: false,
            position_ms: 0,
            caller: Some(caller),
        })
    }

    fn insert(&self, info: StreamInfo) -> AttachedEntry {
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
pub struct AttachedEntry {
    list: AttachedList,
    key: usize,
    is_behind_tail: bool,
}

impl AttachedEntry {
    /// Records that the start position is known.
    pub(super) fn start(&mut self, subscription: &MultiSubscription) {
        if let Some(info) = self.list.lock().get_mut(self.key) {
            *info = StreamInfo::of(subscription, info.caller.take());
            self.is_behind_tail = info.is_behind_tail;
        }
    }

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
