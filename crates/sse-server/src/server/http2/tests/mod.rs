//! Requests over HTTP/2 without TLS, from a client in the same thread.

mod frames;
mod hostile;
mod limits;
mod requests;
mod server;
mod slow;
mod streams;
