//! How a stream reaches its server: by a socket of its own, or by one that it shares.

use crate::load::{http2::Http2Stream, transport::Transport};

/// What carries a stream.
#[derive(Debug)]
pub(crate) enum Link {
    /// HTTP/1.1: the socket carries nothing else.
    Own(Transport),
    /// HTTP/2.
    Shared(Http2Stream),
}
