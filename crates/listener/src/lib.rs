//! Follows a Server-Sent Events stream (WHATWG HTML §9.2) and loses nothing when the connection
//! breaks.
//!
//! The path of an event, file by file: `follow/connection` (bytes) → `decode/decoder` (events, and
//! the last event id) → `output/delivery` → `output/printer` and `output/record`. `follow/follower`
//! repeats this, connection after connection.
//!
//! | folder | holds |
//! |---|---|
//! | [`settings`] | the command line and its environment, checked once |
//! | [`follow`] | connections: request, response, redirects, errors, retries |
//! | [`decode`] | bytes to events |
//! | [`output`] | stdout, stderr, the record file and the state file |
//! | [`load`] | `listener bench`: many streams on one thread, every event accounted for |

pub mod decode;
pub mod follow;
pub mod load;
pub mod output;
pub mod settings;
