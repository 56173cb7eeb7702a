//! Requests as bytes, and responses framed by their head (RFC 9112, section 6.3).

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{TestServer, within};

/// A socket of any transport.
pub(crate) trait AnySocket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AnySocket for T {}

/// A connection on which a test writes bytes of its own.
pub(crate) struct RawConnection {
    socket: Box<dyn AnySocket>,
    received: Vec<u8>,
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct RawHead {
    pub(crate) status: u16,
    pub(crate) is_http_10: bool,
    headers: Vec<(String, String)>,
    bytes: usize,
}

impl RawHead {
    /// The only value of a header. The name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {self:?}");
        value
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

impl RawConnection {
    /// Connects to the server and sends `request`.
    pub(crate) async fn send(server: &TestServer, request: &str) -> Self {
        Self::send_over(server.connect().await, request).await
    }

    /// Sends `request` over a unix socket, or a connection to a proxy, for example.
    pub(crate) async fn send_over(mut socket: impl AnySocket + 'static, request: &str) -> Self {
        socket.write_all(request.as_bytes()).await.unwrap();
        Self {
            socket: Box::new(socket),
            received: Vec::new(),
        }
    }

    /// Sends more bytes on the same connection.
    pub(crate) async fn send_more(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Receives until everything received so far contains `text` this many times.
    pub(crate) async fn receive_until_count(&mut self, text: &str, count: usize) {
        while self.text().matches(text).count() < count {
            assert!(self.receive().await, "no {text:?} in {:?}", self.text());
        }
    }

    /// Receives more bytes; returns whether there were any.
    async fn receive(&mut self) -> bool {
        let received = self.socket.read_buf(&mut self.received);
        within("bytes of a response", received).await.unwrap() > 0
    }

    /// Receives the head of the response.
    pub(crate) async fn head(&mut self) -> RawHead {
        loop {
            if let Some(head) = parse_head(&self.received) {
                return head;
            }
            assert!(self.receive().await, "no head in {:?}", self.text());
        }
    }

    /// Receives until the body, as its head frames it, contains `text`.
    pub(crate) async fn body_until(&mut self, head: &RawHead, text: &str) -> String {
        let receiving = async {
            loop {
                let body = decoded(head, &self.received[head.bytes..]).0;
                if body.contains(text) {
                    return body;
                }
                assert!(self.receive().await, "no {text:?} in {:?}", self.text());
            }
        };
        within(text, receiving).await
    }

    /// Receives until the server closes the connection; returns the body, which must be complete.
    pub(crate) async fn body_to_the_close(&mut self, head: &RawHead) -> String {
        while self.receive().await {}
        let (body, is_complete) = decoded(head, &self.received[head.bytes..]);
        assert!(is_complete, "not complete: {:?}", self.text());
        body
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// Sends `request`, and returns the head and the body of the only response on the connection.
pub(crate) async fn only_response(server: &TestServer, request: &str) -> (RawHead, String) {
    let mut connection = RawConnection::send(server, request).await;
    let head = connection.head().await;
    let body = connection.body_to_the_close(&head).await;
    (head, body)
}

fn parse_head(bytes: &[u8]) -> Option<RawHead> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).unwrap() else {
        return None;
    };
    let headers = response.headers.iter().map(|header| {
        let value = String::from_utf8(header.value.to_vec()).unwrap();
        (header.name.to_ascii_lowercase(), value)
    });
    Some(RawHead {
        status: response.code.unwrap(),
        is_http_10: response.version == Some(0),
        headers: headers.collect(),
        bytes: length,
    })
}

/// The body so far, and whether the bytes end where the head or the last chunk puts the end.
///
/// A body that only the close delimits is complete at every byte.
fn decoded(head: &RawHead, bytes: &[u8]) -> (String, bool) {
    let (body, is_complete) = if head.is_chunked() {
        assert_eq!(head.header("content-length"), None, "{head:?}");
        without_chunks(bytes)
    } else {
        let length = head.header("content-length");
        let length = length.map(|length| length.parse::<usize>().unwrap());
        (
            bytes.to_vec(),
            length.is_none_or(|length| length == bytes.len()),
        )
    };
    (String::from_utf8(body).unwrap(), is_complete)
}

fn without_chunks(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(bytes).expect("the size of a chunk");
        let httparse::Status::Complete((start, size)) = size else {
            return (body, false);
        };
        let size = usize::try_from(size).unwrap();
        let Some(chunk) = bytes.get(start..start + size + 2) else {
            return (body, false);
        };
        assert!(chunk.ends_with(b"\r\n"), "{chunk:?}");
        body.extend_from_slice(&chunk[..size]);
        bytes = &bytes[start + size + 2..];
        if size == 0 {
            return (body, bytes.is_empty());
        }
    }
}
