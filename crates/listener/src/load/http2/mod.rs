//! HTTP/2: many streams on each connection.
//!
//! The crate `h2` speaks the protocol. It has the interface of futures, and the engine has no
//! runtime. So a future is polled when the engine has a reason: its socket is ready, or `h2` has
//! called its waker. A waker puts the token of its connection or stream into a queue, which the
//! engine empties in each turn.
//!
//! ```text
//! socket is ready ─► SharedConnection::poll ─► h2 ─► waker ─► WakeQueue ─► Http2Stream::poll_part
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `shared_connection` | one connection, from its handshake to its end |
//! | `socket` | its socket, as `h2` reads and writes it |
//! | `stream` | one stream of it |
//! | `wake_queue` | what has to be polled |

mod shared_connection;
mod socket;
mod stream;
mod wake_queue;

use std::{cell::RefCell, rc::Rc, sync::Arc};

pub(crate) use self::{
    shared_connection::{ConnectionChange, SharedConnection},
    socket::{NoHttp2, SharedSocket},
    stream::{Http2Stream, StreamPart},
    wake_queue::WakeQueue,
};
use super::transport::TransportBuffers;

/// All connections of a run that have several streams.
pub(crate) struct SharedConnections {
    pub(crate) list: Vec<SharedConnection>,
    pub(crate) wakes: Arc<WakeQueue>,
    pub(crate) buffers: Rc<RefCell<TransportBuffers>>,
}

impl SharedConnections {
    /// `first_token` is the token of the first connection, which follows those of the streams.
    pub(crate) fn new(count: u32, first_token: u32) -> Self {
        let wakes = Arc::new(WakeQueue::default());
        let list = (0..count)
            .map(|nth| SharedConnection::new(wakes.waker(first_token + nth)))
            .collect();
        Self {
            list,
            wakes,
            buffers: Rc::new(RefCell::new(TransportBuffers::new())),
        }
    }
}
