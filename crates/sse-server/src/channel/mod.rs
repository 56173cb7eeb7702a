//! A channel as subscribers see it: its tail in memory, and their cursors in it.

mod encode;
pub mod hub;
pub mod multi;
pub mod start;
pub mod subscription;
pub mod tail;
#[cfg(test)]
mod tests;

pub use encode::{Envelope, Neighbours};
pub use hub::{Hub, LiveChannel};
pub use multi::MultiSubscription;
pub use start::{StartAt, UnreadableCursor};
pub use subscription::{Chunk, Filter, Settlement, Step, Subscription, Wanted};
pub use tail::{Frames, Listener, Tail, TailLimits};
