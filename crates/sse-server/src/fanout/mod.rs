//! The connections of subscribers: what drives a [`MultiSubscription`](crate::channel::MultiSubscription) for a socket.
//!
//! A stream begins (`begin`) as the body of an ordinary response (`body`). Once its opening is out, its socket leaves
//! actix (`detach`) for a fan-out thread (`threads`, `reactor`), which drives it from then on; a socket that cannot leave
//! is driven by its body to the end. Either way history is read through `pages`, and a client that takes nothing is closed
//! by `stall_timeout`.

pub mod admission;
pub mod begin;
pub mod detach;
pub mod page_cache;
pub mod stall;
pub mod stream_body;
pub mod thread;

mod connection;
mod heartbeat_wheel;
mod reactor;

mod view;

pub use view::Framing;
