//! A channel as subscribers see it: its tail in memory, and their cursors in it.

mod dress;
pub mod hub;
#[cfg(test)]
mod model;
pub mod multi;
pub mod start;
pub mod subscription;
pub mod tail;

pub use dress::{Envelope, Neighbours};
pub use hub::{Hub, LiveChannel};
pub use multi::MultiSubscription;
pub use start::{StartAt, UnreadableCursor};
pub use subscription::{Chunk, Filter, Settlement, Step, Subscription, Wanted};
pub use tail::{Frames, Listener, Tail, TailLimits};
