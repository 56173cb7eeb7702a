//! The body of a request.
//!
//! The task of the request reads frames as they arrive, even while its handler waits for memory:
//! `h2` closes a connection on which many small frames are left unread, with all its streams. The
//! window limits what is read ahead, because it opens only when the handler takes the bytes.
//!
//! A client may wait for permission before it sends a body (`Expect: 100-continue`). The permission
//! is sent when the handler first asks for bytes, so a request that is rejected by its head gets
//! none.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::{BoxedPayloadStream, Payload};
use actix_web::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use h2::RecvStream;
use tokio::time::timeout;

/// How long a client may take to notice that its body is not wanted.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The body of a request, as the task of the request has it.
pub(super) struct RequestBody(Option<Rc<RefCell<Shared>>>);

/// The body of a request, as its handler has it.
struct Reader(Rc<RefCell<Shared>>);

struct Shared {
    /// `None` after the end of the request's task.
    incoming: Option<RecvStream>,
    /// Bytes that the handler has not taken.
    unread: BytesMut,
    end: Option<BodyEnd>,
    /// The handler has asked for bytes.
    is_wanted: bool,
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum BodyEnd {
    Complete,
    BrokenOff,
}

impl RequestBody {
    /// Returns the body, and the payload that its handler reads.
    pub(super) fn new(incoming: RecvStream) -> (Self, Payload) {
        if incoming.is_end_stream() {
            return (Self(None), Payload::None);
        }
        let shared = Rc::new(RefCell::new(Shared {
            incoming: Some(incoming),
            unread: BytesMut::new(),
            end: None,
            is_wanted: false,
            reader: None,
        }));
        let reader: BoxedPayloadStream = Box::pin(Reader(shared.clone()));
        (Self(Some(shared)), Payload::from(reader))
    }

    /// Reads the frames that have arrived.
    pub(super) fn read_frames(&self, cx: &mut Context<'_>) {
        if let Some(shared) = &self.0 {
            shared.borrow_mut().read_frames(cx);
        }
    }

    /// Reads the rest of a body that no handler wants, for a while. Some clients take the reset of
    /// a request whose body they have not sent completely for a failure, although they have the
    /// response.
    pub(super) async fn discard_rest(self) {
        let Some(shared) = &self.0 else { return };
        let incoming = {
            let mut shared = shared.borrow_mut();
            let _ = shared.take_unread();
            let is_complete = shared.end.is_some();
            shared.incoming.take().filter(|_| !is_complete)
        };
        let Some(mut incoming) = incoming else { return };
        let rest = async {
            while let Some(Ok(bytes)) = incoming.data().await {
                let _ = incoming.flow_control().release_capacity(bytes.len());
            }
        };
        let _ = timeout(DISCARD_TIMEOUT, rest).await;
    }

    /// Whether the handler waits for a body of which nothing has arrived.
    pub(super) fn is_waited_for(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| {
            let shared = shared.borrow();
            shared.is_wanted && shared.unread.is_empty() && shared.end.is_none()
        })
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // From now on h2 ignores what the client sends of the body.
        if let Some(shared) = &self.0 {
            shared.borrow_mut().incoming = None;
        }
    }
}

impl Shared {
    fn read_frames(&mut self, cx: &mut Context<'_>) {
        let Some(incoming) = self.incoming.as_mut().filter(|_| self.end.is_none()) else {
            return;
        };
        while let Poll::Ready(frame) = incoming.poll_data(cx) {
            match frame {
                Some(Ok(bytes)) => self.unread.extend_from_slice(&bytes),
                Some(Err(_)) => self.end = Some(BodyEnd::BrokenOff),
                None => self.end = Some(BodyEnd::Complete),
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            if self.end.is_some() {
                break;
            }
        }
    }

    /// Takes the bytes that have arrived, and lets the client send as many again.
    fn take_unread(&mut self) -> Bytes {
        let bytes = mem::take(&mut self.unread).freeze();
        if let Some(incoming) = &mut self.incoming {
            // It fails only if more is released than was received.
            let _ = incoming.flow_control().release_capacity(bytes.len());
        }
        bytes
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.0.borrow_mut();
        if !shared.unread.is_empty() {
            return Poll::Ready(Some(Ok(shared.take_unread())));
        }
        match shared.end {
            Some(BodyEnd::Complete) => Poll::Ready(None),
            None if shared.incoming.is_some() => {
                shared.is_wanted = true;
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(BodyEnd::BrokenOff) | None => {
                Poll::Ready(Some(Err(PayloadError::Incomplete(None))))
            }
        }
    }
}
