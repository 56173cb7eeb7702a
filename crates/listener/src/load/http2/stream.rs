//! One stream of a connection that several share.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{RecvStream, client::ResponseFuture};
use http::response::Parts;

/// A stream, from its place in the queue to the end of its response.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    state: StreamState,
    waker: Waker,
}

#[derive(Debug)]
enum StreamState {
    /// The connection is not open yet.
    Queued,
    /// The request was sent.
    Requested(ResponseFuture),
    /// The head of the response has arrived.
    Responding(RecvStream),
}

/// The next part of a response.
#[derive(Debug)]
pub(crate) enum StreamPart {
    Head(Parts),
    Data(Bytes),
    End,
}

impl Http2Stream {
    /// A stream whose request was not sent.
    pub(crate) const fn queued(waker: Waker) -> Self {
        Self {
            state: StreamState::Queued,
            waker,
        }
    }

    /// Waits for the response to the request that was sent.
    pub(crate) fn await_response(&mut self, response: ResponseFuture) {
        self.state = StreamState::Requested(response);
    }

    /// Returns the next part of the response. A pending stream is woken later.
    pub(crate) fn poll_part(&mut self) -> Poll<Result<StreamPart, h2::Error>> {
        let mut context = Context::from_waker(&self.waker);
        let part = match &mut self.state {
            StreamState::Queued => return Poll::Pending,
            StreamState::Requested(response) => {
                let response = ready!(Pin::new(response).poll(&mut context))?;
                let (head, body) = response.into_parts();
                self.state = StreamState::Responding(body);
                StreamPart::Head(head)
            }
            StreamState::Responding(body) => match ready!(body.poll_data(&mut context)) {
                Some(data) => {
                    let data = data?;
                    // The data is processed at once, so the server may send as much again.
                    body.flow_control().release_capacity(data.len())?;
                    StreamPart::Data(data)
                }
                None => StreamPart::End,
            },
        };
        Poll::Ready(Ok(part))
    }
}
