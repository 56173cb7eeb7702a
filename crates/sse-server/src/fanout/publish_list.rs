//! The open streaming publishes, which operators list and close like streams.
//!
//! The limit of open streams bounds the list, because each publish has a
//! `PublishPermit`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use sse_proto::Channel;
use tokio_util::sync::CancellationToken;

use super::stream_caller::{StreamCaller, next_id};

/// The open streaming publishes; clones share the list.
#[derive(Debug, Clone, Default)]
pub struct PublishList(Arc<Mutex<HashMap<u64, Arc<OpenPublish>>>>);

/// One open streaming publish.
#[derive(Debug)]
pub struct OpenPublish {
    id: u64,
    channel: Channel,
    address: Option<IpAddr>,
    opened: SystemTime,
    bytes: AtomicU64,
    /// `None` without access rules.
    caller: Option<StreamCaller>,
    closing: CancellationToken,
}

/// Lists a publish until it is dropped.
#[derive(Debug)]
pub(crate) struct PublishEntry {
    list: PublishList,
    publish: Arc<OpenPublish>,
}

impl PublishList {
    /// Adds a publish that begins now.
    pub(crate) fn add(
        &self,
        channel: Channel,
        address: Option<IpAddr>,
        caller: Option<StreamCaller>,
    ) -> PublishEntry {
        let publish = Arc::new(OpenPublish {
            id: next_id(),
            channel,
            address,
            opened: SystemTime::now(),
            bytes: AtomicU64::new(0),
            caller,
            closing: CancellationToken::new(),
        });
        self.lock().insert(publish.id, publish.clone());
        PublishEntry {
            list: self.clone(),
            publish,
        }
    }

    /// Returns the publishes, in no order.
    #[must_use]
    pub fn publishes(&self) -> Vec<Arc<OpenPublish>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenPublish>>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenPublish {
    /// Returns the id by which an operator closes the publish; no stream of this node has it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Returns the channel of the lines.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns the address of the client, if it has one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns when the publish began.
    #[must_use]
    pub const fn opened(&self) -> SystemTime {
        self.opened
    }

    /// Returns the bytes of the body that have arrived.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records how many bytes of the body have arrived.
    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns who publishes; `None` without access rules.
    #[must_use]
    pub const fn caller(&self) -> Option<&StreamCaller> {
        self.caller.as_ref()
    }

    /// Ends the publish after the lines that are being stored.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until an operator closes the publish.
    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
    }
}

impl PublishEntry {
    /// Returns the publish.
    pub(crate) const fn publish(&self) -> &Arc<OpenPublish> {
        &self.publish
    }
}

impl Drop for PublishEntry {
    fn drop(&mut self) {
        self.list.lock().remove(&self.publish.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_publish_is_listed_until_it_ends_and_can_be_closed() {
        let list = PublishList::default();
        let (first, second) = (
            list.add("a".parse().unwrap(), None, None),
            list.add("b".parse().unwrap(), None, None),
        );
        assert_ne!(first.publish().id(), second.publish().id());
        first.publish().set_bytes(7);
        drop(second);
        let listed = list.publishes();
        assert_eq!((listed.len(), listed[0].bytes()), (1, 7));
        assert_eq!(listed[0].channel().as_str(), "a");
        listed[0].close();
        first.publish().closed().await;
        drop(first);
        assert!(list.publishes().is_empty());
    }
}
