//! The words and the wire that server, generator and listener share.
//!
//! Everything here is pure: no sockets, no async, nothing of HTTP or of a broker. What is written on the wire
//! follows the WHATWG HTML standard, §9.2 "Server-sent events"
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! | module | holds |
//! |---|---|
//! | [`event`] | [`Event`] and its checked parts, [`Channel`] and [`EventType`] |
//! | [`cursor`] | [`EventId`], [`Position`] and [`Cursor`]: where a subscriber stands |
//! | [`wire`] | events, comments and `retry` to `text/event-stream` bytes |
//! | [`lines`] | `text/event-stream` bytes to lines, whatever the line ends and reads, and what a line says |
//! | [`blocks`] | lines to whole blocks |
//! | [`api`] | the JSON of answers, errors, history and batch lines |
//! | [`json`] | JSON as event data: checked, and kept byte for byte |
//! | [`record`] | the lines of the record files by which loss is counted |
//! | [`units`] | the one grammar for durations, times and sizes |

pub mod api;
pub mod blocks;
pub mod cursor;
pub mod event;
pub mod json;
pub mod lines;
pub mod record;
pub mod units;
pub mod wire;

pub use cursor::{Cursor, EventId, Position};
pub use event::{Channel, Event, EventType};
