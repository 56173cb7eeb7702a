//! One connection, as its owner has it.

use std::{sync::Arc, task::Context};

use super::{
    CloseReason, ConnectionPermit, Phase,
    entry::{Entry, PhaseSince},
};
use crate::budget::ClientNet;

/// A connection that HTTP serves. It has an entry in the table until it is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    registration: Registration,
    permit: ConnectionPermit,
}

/// Removes the entry when it is dropped.
#[derive(Debug)]
struct Registration {
    entry: Arc<Entry>,
    key: usize,
}

impl OpenConnection {
    pub(super) const fn new(entry: Arc<Entry>, key: usize, permit: ConnectionPermit) -> Self {
        Self {
            registration: Registration { entry, key },
            permit,
        }
    }

    /// Removes the entry; the permit counts the connection from now on.
    pub(crate) fn into_permit(self) -> ConnectionPermit {
        self.permit
    }

    /// Returns the network of the client; `None` over a unix socket.
    pub(crate) fn client_net(&self) -> Option<ClientNet> {
        self.permit.client_net()
    }

    /// Records that the connection is in `phase` from now on.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.set_phase_since(phase, self.entry().client().table().now_ms());
    }

    pub(super) fn set_phase_since(&self, phase: Phase, since_ms: u64) {
        self.entry().set_phase(PhaseSince::new(phase, since_ms));
    }

    /// Whether the connection is of the reserve, and so ends with its response.
    pub(crate) fn is_reserved(&self) -> bool {
        self.entry().is_reserved()
    }

    /// Whether a stream may use the connection. One of the reserve may if there is room again.
    pub(crate) fn may_stream(&self) -> bool {
        if !self.is_reserved() {
            return true;
        }
        let client = self.entry().client();
        let has_room = client.table().has_general_room(client);
        if has_room {
            self.entry().leave_reserve();
        }
        has_room
    }

    /// Counts one more stream that shares the connection with other requests. Returns `false` if the
    /// client has too many.
    pub(crate) fn claim_stream(&self) -> bool {
        let client = self.entry().client();
        let limits = client.table().limits();
        client.claim_multiplexed(limits.client_streams_max)
    }

    /// Counts one stream less.
    pub(crate) fn release_stream(&self) {
        self.entry().client().release_multiplexed();
    }

    /// Returns why the connection must be closed; the task is woken if that changes.
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Option<CloseReason> {
        self.entry().poll_close(cx.waker())
    }

    /// Returns why the connection must be closed.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.entry().close_reason()
    }

    /// Counts the end of the connection for `reason`.
    pub(crate) fn record_close(&self, reason: CloseReason) {
        let metrics = &self.entry().client().table().0.metrics;
        metrics.connection_closed(reason.as_str());
    }

    fn entry(&self) -> &Entry {
        &self.registration.entry
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let table = self.entry.client().table();
        // The registration still refers to the entry, so no client is dropped under the lock.
        let _ = table.entries().slab.try_remove(self.key);
    }
}
