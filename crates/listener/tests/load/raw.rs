//! A server without HTTP: the test writes the bytes to the sockets.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
};

use crate::support::{WAIT_MAX, bounded};

/// The head of a chunked stream.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A server on a free port.
pub(crate) struct RawServer(TcpListener);

/// A request, and the socket for the response.
pub(crate) struct RawRequest {
    pub(crate) last_event_id: Option<String>,
    pub(crate) socket: TcpStream,
}

impl RawServer {
    pub(crate) fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("a bound socket"))
    }

    /// Waits for the next request.
    pub(crate) fn next_request(&self) -> RawRequest {
        let listener = self.0.try_clone().expect("a live socket");
        let (socket, _) = bounded("a connection", move || {
            listener.accept().expect("a connection")
        });
        RawRequest::read(socket)
    }

    /// Responds to every request on a thread of its own, until the end of the test.
    pub(crate) fn respond_to_all(self, mut respond: impl FnMut(RawRequest) + Send + 'static) {
        std::thread::spawn(move || {
            self.0
                .incoming()
                .flatten()
                .map(RawRequest::read)
                .for_each(&mut respond);
        });
    }
}

impl RawRequest {
    fn read(socket: TcpStream) -> Self {
        socket
            .set_read_timeout(Some(WAIT_MAX))
            .expect("a live socket");
        socket.set_nodelay(true).expect("a live socket");
        let lines = BufReader::new(&socket)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty());
        let id = |line: String| line.strip_prefix("last-event-id: ").map(str::to_owned);
        let last_event_id = lines.filter_map(id).last();
        Self {
            last_event_id,
            socket,
        }
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket
            .write_all(bytes.as_ref())
            .expect("the bench reads on");
    }

    /// Sends these bytes repeatedly until the load test closes the connection.
    pub(crate) fn send_until_closed(mut self, bytes: &str) {
        while self.socket.write_all(bytes.as_bytes()).is_ok() {}
    }
}

/// Encodes a body in chunks of `size` bytes.
pub(crate) fn chunked(body: &str, size: usize) -> String {
    let chunk =
        |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    let wire: Vec<u8> = body.as_bytes().chunks(size).flat_map(chunk).collect();
    String::from_utf8(wire).expect("ASCII")
}
