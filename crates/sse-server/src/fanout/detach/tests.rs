//! Stalled clients, and the contract with actix's dispatcher.

use std::{
    convert::Infallible,
    io::{ErrorKind, Write as _},
    net::TcpListener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_http::{Extensions, HttpService, Request, Response, StatusCode, body::BodyStream};
use actix_service::{Service as _, ServiceFactory as _};
use bytes::Bytes;
use futures::stream;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    time::Instant,
};

use super::*;
use crate::{
    connections::ConnectionTable,
    fanout::{stall::UNSENT_BYTES, tls_socket::TlsSocket},
    tls::test_support::{TestConnection, certificates},
};

const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

fn open_connection() -> OpenConnection {
    ConnectionTable::for_tests().accept(None, false).unwrap()
}

/// Connects two sockets with small buffers. The second one is the accepted one.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    accepted.set_nonblocking(true).unwrap();
    SockRef::from(&client)
        .set_recv_buffer_size(32 << 10)
        .unwrap();
    SockRef::from(&accepted)
        .set_send_buffer_size(32 << 10)
        .unwrap();
    let [client, accepted] = [client, accepted].map(TcpStream::from_std);
    (client.unwrap(), accepted.unwrap())
}

/// Like [`tcp_pair`], with unix sockets.
fn unix_pair() -> (UnixStream, UnixStream) {
    let (client, accepted) = UnixStream::pair().unwrap();
    SockRef::from(&accepted)
        .set_send_buffer_size(32 << 10)
        .unwrap();
    (client, accepted)
}

/// Writes until the client is stalled. Returns the bytes that were written, and how long the kernel
/// accepted nothing.
///
/// With TLS, the kernel may accept a part of a record long after the last complete write.
async fn write_until_stalled(connection: &mut DetachableSocket) -> (usize, Duration) {
    let observed = connection.clone();
    let (mut written, mut accepted, mut last_progress) =
        (0, BytesAccepted::default(), Instant::now());
    loop {
        let mut write = pin!(connection.write(&[b'x'; 4096]));
        let result = poll_fn(|cx| {
            let polled = write.as_mut().poll(cx);
            let accepted_now = observed.0.accepted.get();
            if accepted_now != accepted {
                (accepted, last_progress) = (accepted_now, Instant::now());
            }
            polled
        });
        match result.await {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return (written, last_progress.elapsed());
            }
        }
    }
}

/// The paused clock advances whenever the test has nothing else to wait for.
#[tokio::test(start_paused = true)]
async fn a_client_that_accepts_no_data_is_closed_after_its_stall_timeout() {
    let (_client, accepted) = tcp_pair();
    assert_closed_when_stalled(accepted, UNSENT_BYTES).await;
    let (_client, accepted) = unix_pair();
    assert_closed_when_stalled(accepted, 0).await;
}

/// With TLS, the kernel may have accepted a part of the record that is not written.
#[tokio::test(start_paused = true)]
async fn a_stalled_client_is_closed_when_it_has_accepted_no_part_of_a_record() {
    let directory = tempfile::TempDir::new().unwrap();
    let certificates = certificates(&directory, &["hub.example"]);
    let mut tls = TestConnection::new(&certificates, "hub.example", &rustls::version::TLS13);
    tls.exchange().unwrap();
    let (_client, accepted) = tcp_pair();
    let accepted = TlsSocket::new(accepted, Box::new(tls.server), Vec::new());
    let mut connection = DetachableSocket::new(accepted, open_connection(), WRITE_TIMEOUT);
    // A stream has no lowest rate.
    connection.start_stream();
    let (bytes, waited) = write_until_stalled(&mut connection).await;
    let all = connection.0.accepted.get();
    assert!(bytes > 0 && all != BytesAccepted::default());
    let stall_timeout = all.stall_timeout(WRITE_TIMEOUT, UNSENT_BYTES);
    assert!(
        (stall_timeout..stall_timeout + WRITE_TIMEOUT).contains(&waited),
        "{waited:?} instead of {stall_timeout:?}"
    );
}

/// Checks the stall timeout of a connection whose kernel may hold `unsent_max` unsent bytes.
async fn assert_closed_when_stalled(accepted: impl Into<AcceptedSocket>, unsent_max: u32) {
    let mut connection = DetachableSocket::new(accepted, open_connection(), WRITE_TIMEOUT);
    let (bytes, waited) = write_until_stalled(&mut connection).await;
    let mut accepted = BytesAccepted::default();
    accepted.add(bytes);
    let stall_timeout = accepted.stall_timeout(WRITE_TIMEOUT, unsent_max);
    assert!(
        stall_timeout > 2 * WRITE_TIMEOUT,
        "the client accepted only {bytes} bytes"
    );
    assert!(
        (stall_timeout..stall_timeout + WRITE_TIMEOUT).contains(&waited),
        "{waited:?} instead of {stall_timeout:?}"
    );
}

/// Writes a response to a client that reads `bytes` every 100 ms. Returns the bytes accepted, and
/// how long it took until the write failed: `None` if it did not within ten minutes.
async fn write_to_reader(is_stream: bool, bytes: usize) -> (usize, Option<Duration>) {
    let (mut client, accepted) = tcp_pair();
    let mut connection =
        DetachableSocket::new(accepted, open_connection(), Duration::from_hours(1));
    let guard = connection.start_request(false);
    assert!(!guard.start_response());
    if is_stream {
        connection.start_stream();
    }
    let begun = Instant::now();
    let mut accepted = 0;
    let write = async {
        loop {
            match connection.write(&[b'x'; 1024]).await {
                Ok(count) => accepted += count,
                Err(error) => return assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
    };
    let read = async {
        let mut buffer = vec![0; bytes];
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // A client that reads nothing has an empty buffer.
            client.read_exact(&mut buffer).await.unwrap();
        }
    };
    let is_closed = tokio::select! {
        () = write => true,
        () = read => unreachable!(),
        () = tokio::time::sleep(Duration::from_mins(10)) => false,
    };
    (accepted, is_closed.then(|| begun.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn a_response_must_be_read_at_the_lowest_rate() {
    // The attempts to write are a second apart.
    let margin = Duration::from_secs(3);
    for bytes in [0, 50] {
        let (accepted, closed_after) = write_to_reader(false, bytes).await;
        let closed_after = closed_after.expect("too slow");
        let lowest = Duration::from_millis(accepted.saturating_sub(UNSENT_BYTES as usize) as u64);
        assert!(
            closed_after >= lowest,
            "{closed_after:?} for {accepted} bytes"
        );
        assert!(
            closed_after <= lowest + margin,
            "{closed_after:?} for {accepted} bytes"
        );
    }
    assert_eq!(write_to_reader(false, 110).await.1, None);
    // A stream has only the stall timeout.
    assert_eq!(write_to_reader(true, 50).await.1, None);
}

#[tokio::test]
async fn a_socket_is_detached_once_and_counts_as_open_until_it_is_dropped() {
    let (_client, accepted) = tcp_pair();
    let table = ConnectionTable::for_tests();
    let open = table.accept(None, false).unwrap();
    let connection = DetachableSocket::new(accepted, open, WRITE_TIMEOUT);
    let detached = connection.detach().await.unwrap();
    assert!(detached.is_some());
    assert!(connection.detach().await.unwrap().is_none());
    assert_eq!(table.open_count(), 1);
    drop(detached);
    assert_eq!(table.open_count(), 0);
}

/// Both properties of the contract, with actix's real dispatcher. The opening is much larger than
/// the buffers of both kernels, so the client must read before the body may take the socket.
#[actix_web::test]
async fn actix_writes_everything_before_the_detach_and_handles_no_request_after_it() {
    let (client, accepted) = tcp_pair();
    assert_contract(client, accepted).await;
    let (client, accepted) = unix_pair();
    assert_contract(client, accepted).await;
}

async fn assert_contract(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    accepted: impl Into<AcceptedSocket>,
) {
    const OPENING_BYTES: usize = 1 << 20;
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let connection = DetachableSocket::new(accepted, open_connection(), WRITE_TIMEOUT);
    let (sender, mut detached) = mpsc::unbounded_channel();
    let service = HttpService::build()
        .on_connect_ext(|connection: &DetachableSocket, data: &mut Extensions| {
            data.insert(connection.clone());
        })
        .h1(move |request: Request| {
            counter.fetch_add(1, Ordering::Relaxed);
            let connection = request.conn_data::<DetachableSocket>().cloned().unwrap();
            let sender = sender.clone();
            let body = stream::unfold(true, move |is_opening| {
                let (connection, sender) = (connection.clone(), sender.clone());
                async move {
                    if is_opening {
                        return Some((Ok(Bytes::from(vec![b'o'; OPENING_BYTES])), false));
                    }
                    match connection.detach().await {
                        Ok(socket) => {
                            sender.send(socket.unwrap()).unwrap();
                            Some((Ok::<_, io::Error>(Bytes::from_static(b":")), false))
                        }
                        Err(error) => Some((Err(error), false)),
                    }
                }
            });
            let response = Response::build(StatusCode::OK).body(BodyStream::new(body));
            async move { Ok::<_, Infallible>(response) }
        });
    let service = service.new_service(()).await.unwrap();

    let two_requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    client.write_all(two_requests.as_bytes()).await.unwrap();

    let mut served = Box::pin(service.call((connection, None)));
    // The client does not read, so the opening is blocked and the socket cannot leave.
    for _ in 0..1000 {
        assert!(futures::poll!(&mut served).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(
        detached.try_recv().is_err(),
        "the opening is not written yet"
    );

    let read_all = async {
        let mut received = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            tokio::select! {
                count = client.read(&mut buffer) => match count.unwrap() {
                    0 => return received,
                    count => received.extend_from_slice(&buffer[..count]),
                },
                Some(detached) = detached.recv() => {
                    let mut detached: DetachedSocket = detached;
                    // The kernel has room for these bytes once it has sent some of the opening.
                    while let Err(error) = detached.socket.write(b"after") {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        let count = client.read(&mut buffer).await.unwrap();
                        received.extend_from_slice(&buffer[..count]);
                    }
                    detached.socket.close_write();
                },
            }
        }
    };
    let (served, received) = futures::join!(served, read_all);
    assert!(served.is_err(), "the write to the empty connection fails");
    let body = &received[received.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4..];
    let expected = [
        format!("{OPENING_BYTES:X}\r\n").as_bytes(),
        &vec![b'o'; OPENING_BYTES],
        b"\r\nafter",
    ]
    .concat();
    assert!(body == expected, "{} bytes of body", body.len());
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

/// A blocked connection is not polled for anything but its write.
#[tokio::test(start_paused = true)]
async fn a_blocked_write_to_an_unreachable_client_fails_at_the_next_attempt() {
    let (_client, accepted) = tcp_pair();
    let mut connection =
        DetachableSocket::new(accepted, open_connection(), Duration::from_hours(1));
    let sockets = AttachedSockets::default();
    let cookie = connection.0.socket.borrow().as_ref().unwrap().cookie();
    let _watched = connection.watch(&sockets).unwrap();
    let write = async {
        loop {
            if let Err(error) = connection.write(&[b'x'; 4096]).await {
                return error;
            }
        }
    };
    let report = async {
        // The paused clock advances once the write is blocked.
        tokio::time::sleep(Duration::from_mins(1)).await;
        sockets.close_unreachable(&cookie.into_iter().collect());
        Instant::now()
    };
    let (error, reported) = tokio::join!(write, report);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(reported.elapsed() <= Duration::from_secs(1));
}
