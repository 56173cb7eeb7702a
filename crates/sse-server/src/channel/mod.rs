//! A channel as subscribers see it: its tail in memory, and their cursors in it.

pub mod hub;
pub mod subscription;
pub mod tail;

pub use hub::{Hub, LiveChannel};
pub use subscription::{Chunk, Filter, Start, Step, Subscription};
pub use tail::{Frames, Tail, TailLimits};
