//! A server that is scripted by the test: the test accepts requests one by one and writes the
//! responses.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};

use super::WAIT_MAX;

/// A server on a free port of this machine. Every request has a connection of its own.
pub(crate) struct Server {
    address: SocketAddr,
    sockets: Receiver<TcpStream>,
}

/// A reserved port that refuses connections until [`PortWithoutServer::serve`].
pub(crate) struct PortWithoutServer {
    runtime: tokio::runtime::Runtime,
    socket: tokio::net::TcpSocket,
}

/// A received request, and the connection for the response. Dropping it cuts the connection.
pub(crate) struct Exchange {
    /// The request's head, lines ended by LF.
    pub(crate) head: String,
    body: String,
    socket: TcpStream,
}

impl Server {
    /// Listens.
    pub(crate) fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound socket");
        let (send, sockets) = channel();
        // The thread ends with the test, when no receiver is left.
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .all(|socket| send.send(socket).is_ok())
        });
        Self { address, sockets }
    }

    /// The value for `--url`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next request.
    pub(crate) fn request(&self) -> Exchange {
        let socket = self.sockets.recv_timeout(WAIT_MAX).expect("a request");
        socket
            .set_read_timeout(Some(WAIT_MAX))
            .expect("a live socket");
        socket
            .set_write_timeout(Some(WAIT_MAX))
            .expect("a live socket");
        socket.set_nodelay(true).expect("a live socket");
        let mut reader = BufReader::new(&socket);
        let mut head = String::new();
        for line in reader.by_ref().lines() {
            let line = line.expect("the head of a request");
            if line.is_empty() {
                break;
            }
            head.push_str(&line);
            head.push('\n');
        }
        let mut body = String::new();
        let length =
            header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
        reader
            .take(length)
            .read_to_string(&mut body)
            .expect("the body of a request");
        Exchange { head, body, socket }
    }

    /// Waits for the next request and opens a stream with these bytes.
    pub(crate) fn stream(&self, body: impl AsRef<[u8]>) -> Exchange {
        let mut exchange = self.request();
        exchange.open_stream();
        exchange.send(body);
        exchange
    }
}

impl PortWithoutServer {
    pub(crate) fn take() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("a free port");
        Self { runtime, socket }
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "http://{}",
            self.socket.local_addr().expect("a bound socket")
        )
    }

    /// Starts a server on the port.
    pub(crate) fn serve(self) -> Server {
        let _in_runtime = self.runtime.enter();
        let listener = self
            .socket
            .listen(16)
            .and_then(tokio::net::TcpListener::into_std)
            .expect("the port is ours");
        listener.set_nonblocking(false).expect("a live socket");
        Server::on(listener)
    }
}

impl Exchange {
    /// The requested path and query.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).expect("a request line")
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Method and target, content type, body.
    pub(crate) fn posted(&self) -> (&str, Option<&str>, &str) {
        let line = self.head.split(" HTTP/").next().expect("a request line");
        (line, self.header("content-type"), &self.body)
    }

    /// Sends a whole response and closes the connection.
    pub(crate) fn respond(mut self, status: &str, headers: &[&str], body: &str) {
        let headers: String = headers
            .iter()
            .flat_map(|header| [*header, "\r\n"])
            .collect();
        let length = body.len();
        let response = format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        self.write(response.as_bytes());
    }

    /// Sends the head of a stream.
    pub(crate) fn open_stream(&mut self) {
        self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
    }

    /// Sends bytes of the stream as one HTTP chunk, which the listener reads as one.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if !bytes.is_empty() {
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            self.write(&chunk);
        }
    }

    /// Sends bytes of the stream repeatedly until the listener closes the connection.
    pub(crate) fn send_until_closed(mut self, bytes: &str) {
        let chunk = format!("{:x}\r\n{bytes}\r\n", bytes.len());
        while self.socket.write_all(chunk.as_bytes()).is_ok() {}
    }

    /// Ends the stream properly.
    pub(crate) fn end(mut self) {
        self.write(b"0\r\n\r\n");
    }

    /// Sends bytes, including those of the head, and closes the connection.
    pub(crate) fn send_as_they_are(mut self, bytes: &str) {
        self.write(bytes.as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the listener reads on");
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut headers = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    headers
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}
