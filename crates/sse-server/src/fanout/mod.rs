//! Streams: from a subscription to the socket of its client.
//!
//! ```text
//!  request ─► admission ─► start ─► stream_body ─┬─► detach ─► mailbox ─► reactor    (normal case)
//!             (limit)    (position)   (opening)  └─► attached                  (--fanout-threads 0)
//! ```
//!
//! A stream starts as the body of an ordinary response. When its opening is written, the socket
//! leaves actix for a fan-out thread, whose reactor serves thousands of streams. A socket that
//! cannot leave is served by its body until it is closed. In both cases history is read through
//! [`page_cache`], and a client that accepts no data is closed as [`stall`] describes. What a stream
//! must be sent is decided by its [`MultiSubscription`](crate::channel::MultiSubscription).

pub mod admission;
pub mod detach;
pub mod page_cache;
pub mod socket;
pub mod stall;
pub mod start;
pub mod stream_body;
pub mod thread;

mod attached;
mod connection;
mod heartbeat_wheel;
mod mailbox;
mod reactor;
mod settle;
mod shared_state;
mod view;

pub use shared_state::TransferCoding;

#[cfg(test)]
mod test_support;
