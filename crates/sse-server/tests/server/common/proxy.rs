//! A TCP proxy for faults between two programs: a peer that is replaced, a connection that is cut,
//! a connection that becomes silent, answers that arrive late, or an answer that never ends.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::redis_acl::{PASSWORD, USER};

/// Forwards connections to a port of this machine.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    target: Mutex<u16>,
    /// Connections up to this number are silent: their bytes are discarded, and they stay open.
    silent: watch::Sender<u64>,
    /// Connections up to this number get an endless answer.
    flooded: AtomicU64,
    /// Bytes of endless answers that were sent.
    flood_bytes: AtomicU64,
    /// Connections up to this number are closed.
    closed: watch::Sender<u64>,
    connections: AtomicU64,
    /// Connections on which a client has subscribed to something in Redis.
    subscribers: AtomicUsize,
    /// Whether only the subscribed connections are silenced.
    only_subscribers: bool,
    /// Delay of answers, in milliseconds.
    late_ms: AtomicU64,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        Self::start_as(target, false).await
    }

    /// A proxy that silences only the connections on which a client has subscribed.
    pub(crate) async fn of_subscribers(target: u16) -> Self {
        Self::start_as(target, true).await
    }

    async fn start_as(target: u16, only_subscribers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            silent: watch::Sender::new(0),
            flooded: AtomicU64::new(0),
            flood_bytes: AtomicU64::new(0),
            closed: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            subscribers: AtomicUsize::new(0),
            only_subscribers,
            late_ms: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self {
            port,
            shared,
            accepting,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://{USER}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Redirects new connections to another port and closes the existing ones.
    pub(crate) fn switch(&self, target: u16) {
        *self.shared.target.lock().expect("a port") = target;
        self.shared
            .closed
            .send_replace(self.shared.connections.load(Ordering::SeqCst));
    }

    /// Keeps the existing connections open, but forwards nothing on them any more.
    pub(crate) fn silence(&self) {
        self.shared
            .silent
            .send_replace(self.shared.connections.load(Ordering::SeqCst));
    }

    /// Sends an endless list to the client of each existing connection, in place of its next answer
    /// from Redis.
    pub(crate) fn flood(&self) {
        let connections = self.shared.connections.load(Ordering::SeqCst);
        self.shared.flooded.store(connections, Ordering::SeqCst);
    }

    /// Bytes of endless answers that were sent.
    pub(crate) fn flood_bytes(&self) -> u64 {
        self.shared.flood_bytes.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Delays all answers from now on by `late`.
    pub(crate) fn delay(&self, late: Duration) {
        self.shared.late_ms.store(
            u64::try_from(late.as_millis()).expect("a short time"),
            Ordering::SeqCst,
        );
    }

    /// Connections so far on which a client has subscribed.
    pub(crate) fn subscribers(&self) -> usize {
        self.shared.subscribers.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.closed.send_replace(u64::MAX);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(serve(client, shared.clone(), number));
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>, number: u64) {
    let target = SocketAddr::from(([127, 0, 0, 1], *shared.target.lock().expect("a port")));
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (to_wait, waiting) = mpsc::unbounded_channel();
    let has_subscribed = watch::Sender::new(!shared.only_subscribers);
    let mut closed = shared.closed.subscribe();
    tokio::select! {
        () = forward(from_client, To::Server(to_server), &shared, number, &has_subscribed) => {}
        // The delivery ends after the last waiting bytes.
        () = async {
            forward(from_server, To::Waiting(to_wait), &shared, number, &has_subscribed).await;
            std::future::pending::<()>().await;
        } => {}
        () = deliver(waiting, to_client, &shared, number) => {}
        _ = closed.wait_for(|closed| *closed >= number) => {}
    }
}

/// Destination of forwarded bytes.
enum To {
    Server(OwnedWriteHalf),
    /// To the client, each piece at its due time.
    Waiting(mpsc::UnboundedSender<(Instant, Vec<u8>)>),
}

/// Forwards until one side ends, or forever if the connection is silent.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: To,
    shared: &Shared,
    number: u64,
    has_subscribed: &watch::Sender<bool>,
) {
    let mut bytes = vec![0; 64 << 10];
    let mut counted = false;
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !counted && bytes[..read].windows(9).any(|word| word == b"SUBSCRIBE") {
            counted = true;
            has_subscribed.send_replace(true);
            shared.subscribers.fetch_add(1, Ordering::SeqCst);
        }
        let is_silent = *shared.silent.borrow() >= number && *has_subscribed.borrow();
        if is_silent {
            continue;
        }
        let sent = match &mut to {
            To::Server(server) => server.write_all(&bytes[..read]).await.is_ok(),
            To::Waiting(waiting) => {
                let late = Duration::from_millis(shared.late_ms.load(Ordering::SeqCst));
                waiting
                    .send((Instant::now() + late, bytes[..read].to_vec()))
                    .is_ok()
            }
        };
        if !sent {
            return;
        }
    }
    if *shared.silent.borrow() >= number && *has_subscribed.borrow() {
        std::future::pending::<()>().await;
    }
}

/// Sends the client, in order, the bytes that have waited long enough.
async fn deliver(
    mut waiting: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    number: u64,
) {
    while let Some((due, bytes)) = waiting.recv().await {
        sleep_until(due).await;
        if shared.flooded.load(Ordering::SeqCst) >= number {
            return send_endless_list(client, &shared.flood_bytes).await;
        }
        if client.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Sends a list that is too long to reach its end.
async fn send_endless_list(mut client: OwnedWriteHalf, sent: &AtomicU64) {
    let elements = format!("$1024\r\n{}\r\n", "x".repeat(1024)).repeat(64);
    let mut sending = client.write_all(b"*500000\r\n").await;
    while sending.is_ok() {
        sent.fetch_add(elements.len() as u64, Ordering::SeqCst);
        sending = client.write_all(elements.as_bytes()).await;
    }
}
