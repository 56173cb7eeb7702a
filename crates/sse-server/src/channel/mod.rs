//! Channels, as subscribers see them.
//!
//! Each channel with subscribers has a [`Tail`] in memory, which the [`Hub`] feeds from the log.
//! Each subscriber is a [`MultiSubscription`]: a cursor that decides what to send next. Only `hub`,
//! `feed_read`, `feed_outage`, `start` and `search` wait for the broker or the clock. Tests run everything else
//! without a socket, a clock or a broker.
//!
//! | module | contents |
//! |---|---|
//! | `hub`, `feed_read` | the channels that have subscribers, and the reads of the log for their tails |
//! | `feed`, `feed_state` | how a read of the log changes a tail, and which committed groups it takes |
//! | `feed_outage` | the channels whose log cannot be read now, and the pauses between attempts |
//! | `tail`, `frame` | the newest events of a channel, each encoded once |
//! | `tail_memory`, `write_order` | the bound that all tails share, and which of them is cut first |
//! | `subscription`, `multi` | the state of a subscriber in one channel, and in several |
//! | `encode`, `chunk` | events as bytes for one stream |
//! | `gap` | what is sent in place of events that are missing |
//! | `filter`, `start` | which events a reader wants, and where it starts |
//! | `search` | the queue of reads that look for few events |
//! | `history_pager` | the answer of `GET /events`, page by page |

pub mod chunk;
pub mod encode;
pub mod feed;
mod feed_outage;
mod feed_read;
pub mod feed_state;
mod filter;
mod frame;
mod gap;
pub mod history_pager;
pub mod hub;
pub mod multi;
pub mod search;
pub mod start;
pub mod subscription;
pub mod tail;
pub mod tail_memory;
#[cfg(test)]
mod tests;
mod write_order;

pub use chunk::Chunk;
pub use encode::{Envelope, IdAffixes};
pub use filter::Filter;
pub use frame::Frame;
pub use hub::{Hub, LiveChannel, ReservedChannels};
pub use multi::MultiSubscription;
pub use search::{Searcher, Searches};
pub use start::{StartAt, UnreadableCursor};
pub use subscription::{Settlement, Step, Subscription, SubscriptionOptions};
pub use tail::{Frames, Tail, TailLimits, TailListener};
pub use tail_memory::TailMemory;
