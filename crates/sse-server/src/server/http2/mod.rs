//! HTTP/2: many requests and streams on one connection.
//!
//! ```text
//!                                 ┌─ request ─► app ─► response head ─► body ─┐
//!  TLS ─► connection (h2) ─ one ──┤  task per request                        ├─► connection (h2)
//!         frames, windows         └─ …                                       ┘
//! ```
//!
//! The crate `h2` decodes frames and keeps the windows. This folder decides what the server does
//! with them. The handlers are those of HTTP/1: a request becomes one of actix, and a response of
//! actix becomes frames again. All tasks of a connection run on its worker thread.
//!
//! | file | contents |
//! |---|---|
//! | `limits` | what one connection may use |
//! | `connection` | accepts the requests of a connection until it ends |
//! | `keepalive` | pings that find dead peers |
//! | `exchange` | one request and its response |
//! | `request_head` | the head of a request as actix has it |
//! | `head_memory` | the memory of the heads of all requests of a connection |
//! | `request_body` | the body of a request |
//! | `response_head` | the head of a response |
//! | `response_body` | sends a body as far as the client has room |
//! | `write_queue` | the frames that the connection has not accepted |
//!
//! # Memory
//!
//! A client decides with its windows how fast it receives. A body is polled for its next chunk only
//! when the chunk before is sent, and [`h2`] gets at most a frame of it that the window has room
//! for. Everything else waits in the body, where `--blocked-bytes` counts it.

mod connection;
mod exchange;
mod head_memory;
mod keepalive;
mod limits;
mod request_body;
mod request_head;
mod response_body;
mod response_head;
#[cfg(test)]
mod tests;
mod write_queue;

pub(super) use self::connection::{Http2Connection, Http2Settings, serve_connection};
