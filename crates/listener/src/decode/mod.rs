//! Bytes of a `text/event-stream` response to events (WHATWG HTML §9.2.6).
//!
//! | module | holds |
//! |---|---|
//! | `content_coding` | whether the bytes are compressed |
//! | [`decoder`] | bytes of one connection to events, by `sse_proto::blocks` and `eventsource-stream` |
//! | [`resume`] | the state that outlives a connection: last event id and reconnection time |
//! | [`gap`] | the `gap` event of sse-server |

pub(crate) mod content_coding;
pub mod decoder;
pub mod gap;
pub mod resume;
