//! A scripted HTTP/1.1 server on a free port: records requests, and sends the responses of the
//! test.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use crate::WITHIN;

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// Headers, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: String,
}

/// Reaction to a request.
#[derive(Debug, Clone)]
pub(crate) enum Response {
    /// Response with this status and body.
    Status(u16, String),
    /// Response with this status and the header `Retry-After`, in seconds.
    RetryLater(u16, u64),
    /// Acknowledge, announce the end of the connection, and close it.
    AcknowledgeAndClose,
    /// Close the connection without a response.
    Break,
}

/// The server. Its threads end with the test process.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

impl Server {
    /// Starts a server. `response` is called in the thread of each connection, and may wait.
    pub(crate) fn start(response: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (sender, requests) = mpsc::channel();
        let response = Arc::new(response);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (sender, response) = (sender.clone(), Arc::clone(&response));
                thread::spawn(move || serve(&connection, &sender, &*response));
            }
        });
        Self { address, requests }
    }

    /// Starts a server that acknowledges everything.
    pub(crate) fn willing() -> Self {
        Self::start(|_| Response::acknowledge())
    }

    /// Starts a server that acknowledges everything and counts the highest number of requests in
    /// flight.
    pub(crate) fn counting_together() -> (Self, Arc<AtomicUsize>) {
        let most = Arc::<AtomicUsize>::default();
        let (now, most_so_far) = (AtomicUsize::new(0), Arc::clone(&most));
        let server = Self::start(move |_| {
            most_so_far.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            // Let other requests arrive.
            thread::yield_now();
            now.fetch_sub(1, SeqCst);
            Response::acknowledge()
        });
        (server, most)
    }

    /// Returns the URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next request.
    pub(crate) fn request(&self) -> Request {
        self.requests
            .recv_timeout(WITHIN)
            .expect("a request in time")
    }

    /// Returns whether the test has taken all requests.
    pub(crate) fn is_unasked(&self) -> bool {
        self.requests.try_recv().is_err()
    }

    /// Waits for the next requests.
    pub(crate) fn requests(&self, count: usize) -> Vec<Request> {
        (0..count).map(|_| self.request()).collect()
    }
}

impl Response {
    /// Returns the response of sse-server to a stored event.
    pub(crate) fn acknowledge() -> Self {
        Self::Status(200, r#"{"id":"1700000000000-5"}"#.to_owned())
    }

    /// Returns the response of sse-server to a batch of `count` stored events.
    pub(crate) fn batch(count: usize) -> Self {
        Self::Status(
            200,
            format!(
                r#"{{"first_id":"7-0","last_id":"7-{}","count":{count}}}"#,
                count - 1
            ),
        )
    }

    /// Returns the error response of sse-server.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Status(
            status,
            format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#),
        )
    }
}

impl Request {
    /// Returns the value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).expect("a request line")
    }
}

/// Header that announces the end of the connection.
const CLOSE: &str = "connection: close\r\n";

/// Serves one connection until it ends, in whatever way.
fn serve(
    connection: &TcpStream,
    requests: &mpsc::Sender<Request>,
    response: &dyn Fn(&Request) -> Response,
) {
    let mut reader = BufReader::new(connection);
    while let Ok(request) = read_request(&mut reader) {
        // The receiver is gone once the test is over.
        let _ = requests.send(request.clone());
        let (status, body, head) = match response(&request) {
            Response::Status(status, body) => (status, body, String::new()),
            Response::RetryLater(status, seconds) => {
                (status, String::new(), format!("retry-after: {seconds}\r\n"))
            }
            Response::AcknowledgeAndClose => (200, r#"{"id":"7-0"}"#.to_owned(), CLOSE.to_owned()),
            Response::Break => return,
        };
        let answer = format!(
            "HTTP/1.1 {status} Scripted\r\n{head}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        if (&mut &*connection).write_all(answer.as_bytes()).is_err() || head == CLOSE {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Request> {
    let line = read_line(reader)?;
    let mut headers = Vec::new();
    loop {
        let header = read_line(reader)?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        line,
        headers,
        body: String::new(),
    };
    let length = request
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body)?;
    Ok(request)
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// Delays responses until enough requests have arrived, or for ever.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    arrived: Mutex<usize>,
    more: Condvar,
}

impl Gate {
    /// Returns whether `count` requests have arrived in time, including this one.
    pub(crate) fn arrive_and_wait_for(&self, count: usize) -> bool {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        *arrived += 1;
        self.more.notify_all();
        let waited = self
            .more
            .wait_timeout_while(arrived, WITHIN, |arrived| *arrived < count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A port at which every connection is refused. It stays taken, so that no other test gets it.
pub(crate) struct RefusingPort(tokio::net::TcpSocket);

impl RefusingPort {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("a free port");
        Self(socket)
    }

    pub(crate) fn address(&self) -> String {
        self.0.local_addr().expect("a bound socket").to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}
