//! Streams: from a subscription to the socket of its client.
//!
//! ```text
//!  request ─► admission ─► start ─► stream_body ─┬─► detach ─► mailbox ─► reactor    (usually)
//!             (limit)    (position)   (opening)  └─► attached        (--fanout-threads 0)
//! ```
//!
//! A stream starts as the body of an ordinary response. When its opening is written, the socket
//! leaves actix for a fan-out thread, whose reactor serves thousands of streams. Without fan-out
//! threads the body serves the stream until the connection is closed. In both cases history is read
//! through [`page_cache`], and the connection of a stalled client is closed ([`stall`]), as is that
//! of a client that vanished from the network (`reachability`). Streams whose sockets are full share a
//! bound of memory ([`blocked`]). The
//! [`MultiSubscription`](crate::channel::MultiSubscription) decides what a stream is sent.

pub mod admission;
pub mod attached_list;
pub mod attached_sockets;
pub mod blocked;
pub mod detach;
pub mod drain;
pub mod live_list;
pub mod multiplexed;
pub mod open_stream;
pub mod page_cache;
pub mod publish_list;
pub(crate) mod publish_permit;
#[cfg(target_os = "linux")]
pub mod reachability;
pub mod socket;
pub mod stall;
pub mod start;
pub mod stream_body;
pub mod stream_caller;
pub mod stream_guard;
pub mod stream_life;
pub mod streams;
pub mod thread;
pub mod tls_socket;

mod attached;
mod blocked_end;
mod connection;
mod deadline;
mod farewell;
mod heartbeat_wheel;
mod mailbox;
mod page_slot;
mod pending_work;
mod reactor;
mod settlement;
mod shared_state;
mod view;

pub use shared_state::TransferCoding;

#[cfg(test)]
mod test_support;
