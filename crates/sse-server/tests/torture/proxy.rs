//! A TCP proxy between one client and one node: the test can slow down, cut and reject its
//! connections.
//!
//! Each client has its own link to each node that it knows, so a link identifies its client.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    fault_injection::FaultInjector,
    first_id::FirstId,
    options::Plant,
    slow_link::{READ_BYTES, SlowLink},
};

/// A cut waits this long for a frame, and then happens elsewhere.
const FRAME_WITHIN: Duration = Duration::from_secs(1);
/// Time limit for connecting to a node.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A listening port that forwards to a node.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) port: u16,
    pub(crate) control: Arc<Control>,
    accepting: AbortHandle,
}

/// Controls for the connections of a link, and counts of what happened to them.
#[derive(Debug)]
pub(crate) struct Control {
    node: SocketAddr,
    cuts: watch::Sender<u64>,
    /// Rate limit towards the client.
    pub(crate) slow_link: SlowLink,
    /// If set, new connections are closed at once.
    closed: AtomicBool,
    /// Number of upcoming connections that are cut right after the first id.
    cuts_after_first_id: AtomicU32,
    plant: Mutex<Option<Plant>>,
    pub(crate) counts: Counts,
    /// The first event id that this link sent to the client.
    first_id: Mutex<Option<String>>,
}

/// Counts of what happened on a link.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) cut_in_a_frame: AtomicU64,
    pub(crate) cut_elsewhere: AtomicU64,
    pub(crate) cut_after_first_id: AtomicU64,
    /// Connections that the node ended, or that broke when the node died.
    pub(crate) broken: AtomicU64,
    pub(crate) planted: AtomicU64,
}

impl Link {
    /// Opens a link to the node at this port.
    pub(crate) async fn open(node_port: u16, plant: Option<Plant>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot open a proxy's port")?;
        let port = listener.local_addr()?.port();
        let control = Arc::new(Control {
            node: (Ipv4Addr::LOCALHOST, node_port).into(),
            cuts: watch::Sender::new(0),
            slow_link: SlowLink::default(),
            closed: AtomicBool::new(false),
            cuts_after_first_id: AtomicU32::new(0),
            plant: Mutex::new(plant),
            counts: Counts::default(),
            first_id: Mutex::new(None),
        });
        let accepting = tokio::spawn(accept(listener, control.clone())).abort_handle();
        Ok(Self {
            port,
            control,
            accepting,
        })
    }

    /// Returns the URL for the client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Control {
    /// Cuts all open connections, each in the middle of its next frame.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Sets whether new connections are closed at once. Open connections stay.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Relaxed);
    }

    /// Cuts this many of the next connections right after the first id of their stream.
    pub(crate) fn cut_after_first_id(&self, connections: u32) {
        self.cuts_after_first_id.store(connections, Relaxed);
    }

    /// Returns the first event id that this link sent to the client.
    pub(crate) fn first_id(&self) -> Option<String> {
        self.first_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns how many connections were cut.
    pub(crate) fn cut_count(&self) -> u64 {
        let counts = &self.counts;
        [
            &counts.cut_in_a_frame,
            &counts.cut_elsewhere,
            &counts.cut_after_first_id,
        ]
        .map(|count| count.load(Relaxed))
        .iter()
        .sum()
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !control.closed.load(Relaxed) {
            let control = control.clone();
            // The task ends with its connection. An error only means that the connection is lost.
            tokio::spawn(async move {
                let _ = relay(&client, &control).await;
            });
        }
    }
}

async fn relay(client: &TcpStream, control: &Control) -> io::Result<()> {
    let cuts = control.cuts.subscribe();
    let socket = TcpSocket::new_v4()?;
    control.slow_link.configure(&socket)?;
    let node = timeout_at(
        Instant::now() + CONNECT_WITHIN,
        socket.connect(control.node),
    )
    .await??;
    client.set_nodelay(true)?;
    node.set_nodelay(true)?;
    control.counts.connections.fetch_add(1, Relaxed);
    tokio::select! {
        ended = upwards(client, &node) => ended,
        end = downwards(&node, client, control, cuts) => {
            let (count, may_reset) = match end {
                Ok(End::Node) | Err(_) => (&control.counts.broken, false),
                Ok(End::CutInAFrame) => (&control.counts.cut_in_a_frame, true),
                Ok(End::CutElsewhere) => (&control.counts.cut_elsewhere, true),
                // No reset: the client must receive the first id, which is its position.
                Ok(End::CutAfterFirstId) => (&control.counts.cut_after_first_id, false),
            };
            if count.fetch_add(1, Relaxed) % 2 == 0 && may_reset {
                // Reset every second connection, which may also discard sent bytes.
                SockRef::from(client).set_linger(Some(Duration::ZERO))?;
            }
            Ok(())
        }
    }
}

/// Reason why the relay from node to client ended.
enum End {
    Node,
    CutInAFrame,
    CutElsewhere,
    CutAfterFirstId,
}

async fn upwards(client: &TcpStream, node: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match read(client, &mut buffer).await? {
            0 => return Ok(()),
            count => write_all(node, &buffer[..count]).await?,
        }
    }
}

async fn downwards(
    node: &TcpStream,
    client: &TcpStream,
    control: &Control,
    mut cuts: watch::Receiver<u64>,
) -> io::Result<End> {
    let mut buffer = vec![0; READ_BYTES];
    let mut injector: Option<FaultInjector> = None;
    let mut first_id = FirstId::default();
    let mut cut_by: Option<Instant> = None;
    loop {
        let room = control.slow_link.read_bytes();
        let count = tokio::select! {
            count = read(node, &mut buffer[..room]) => count?,
            changed = cuts.changed(), if cut_by.is_none() => {
                changed.map_err(io::Error::other)?;
                cut_by = Some(Instant::now() + FRAME_WITHIN);
                continue;
            }
            () = reached(cut_by) => return Ok(End::CutElsewhere),
        };
        if count == 0 {
            return Ok(End::Node);
        }
        if injector.is_none() {
            injector = control
                .plant
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .map(FaultInjector::new);
        }
        let changed = injector
            .as_mut()
            .map(|injector| injector.push(&buffer[..count], &control.counts.planted));
        let bytes = changed.as_deref().unwrap_or(&buffer[..count]);
        if cut_by.is_some()
            && let Some(inside) = inside_a_frame(bytes)
        {
            write_all(client, &bytes[..inside]).await?;
            return Ok(End::CutInAFrame);
        }
        write_all(client, bytes).await?;
        if first_id.push(bytes) {
            let mut first = control
                .first_id
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = first_id.id().map(ToOwned::to_owned);
            }
            drop(first);
            if control
                .cuts_after_first_id
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                return Ok(End::CutAfterFirstId);
            }
        }
        control.slow_link.delay(count).await;
    }
}

/// Returns an offset in the bytes that is within an event: after the start of its data, before the
/// end.
fn inside_a_frame(bytes: &[u8]) -> Option<usize> {
    let data = bytes.windows(6).position(|window| window == b"data: ")?;
    // Include a few bytes of the data if there are any.
    Some((data + 12).min(bytes.len() - 1))
}

async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
