//! Following a stream: connections that resume where the previous one stopped.
//!
//! | module | holds |
//! |---|---|
//! | [`follower`] | the loop over connections |
//! | [`request`] | the HTTP client and the request |
//! | [`redirect`] | the target of a redirect, and whether secrets may be sent there (pure) |
//! | [`connection`] | one request, its response and its bytes |
//! | [`response`] | the classification of a response: stream, end, retry later or give up (pure) |
//! | [`error`] | errors of a connection, by whether a retry helps |
//! | `message` | the message in the body of an error response |
//! | [`reconnect`] | the wait before the next connection, and the limit of retries (pure) |
//! | [`progress`] | changes of the connection, reported on stderr |

pub mod connection;
pub mod error;
pub mod follower;
pub(crate) mod message;
pub mod progress;
pub mod reconnect;
pub mod redirect;
pub mod request;
pub mod response;
