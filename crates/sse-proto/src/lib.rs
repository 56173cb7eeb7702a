//! Types and wire format that the server, the generator and the listener share.
//!
//! The crate is pure: it has no sockets, no async code, and no knowledge of HTTP or of a broker.
//! The wire format is the WHATWG HTML standard, §9.2 "Server-sent events"
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! | module | contents |
//! |---|---|
//! | [`event`] | [`Event`] and its validated parts [`Channel`] and [`EventType`] |
//! | [`pattern`] | patterns of channel names |
//! | [`cursor`] | [`EventId`], [`Position`] and [`Cursor`] |
//! | [`wire`] | writes events, comments and `retry` as `text/event-stream` bytes |
//! | [`moment`] | parses times and durations before now |
//! | [`notice`] | what a stream reports about itself |
//! | [`lines`] | splits `text/event-stream` bytes into lines, and parses a line |
//! | [`blocks`] | splits `text/event-stream` bytes into complete blocks |
//! | [`api`] | JSON of responses, errors, history and batch lines |
//! | [`json`] | JSON as event data: validated, and kept byte for byte |
//! | [`json_depth`] | how deeply JSON may be nested |
//! | [`record`] | lines of the record files, which are compared to count lost events |
//! | [`units`] | durations, times and sizes on command lines, in variables and in URLs |

pub mod api;
pub mod blocks;
pub mod cursor;
pub mod event;
pub mod json;
pub mod json_depth;
pub mod lines;
pub mod moment;
pub mod notice;
pub mod pattern;
pub mod record;
pub mod units;
pub mod wire;

pub use cursor::{Cursor, EventId, Position};
pub use event::{Channel, Event, EventType};
pub use notice::Notice;
pub use pattern::Pattern;
