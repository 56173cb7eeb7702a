//! A client that vanishes from the network is closed as `unreachable`, and no other client is.
//!
//! Clients are in a network namespace of their own, from which they disappear without a packet to
//! the server. By default a short write timeout is tested. With `TEST_REAL_TIMES`, which
//! `scripts/test --full` sets, the default one is tested, and the kernel's longest pauses between
//! probes: this takes six minutes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::common::{Loss, Network, ServerSocket, TestServer, skip, within};

/// Chooses the real times.
const REAL_TIMES_VARIABLE: &str = "TEST_REAL_TIMES";
/// Longest time from the end of the write timeout to the end of the stream, as documented.
const SWEEP_MAX: Duration = Duration::from_mins(1);
/// Longest time for a client with a closed window, as documented.
const CLOSED_WINDOW_MAX: Duration = Duration::from_mins(5);
/// Receive buffer that three of the large events fill.
const SMALL_BUFFER: usize = 4096;
const LARGE_EVENT_BYTES: usize = 4096;
const LARGE_EVENTS: usize = 3;
/// Bytes that a slow reader reads at once, four times a second: 1 KB/s.
const SIP_BYTES: usize = 250;
const SIP_EVERY: Duration = Duration::from_millis(250);
/// Bytes for the slow reader: more than it can read during the test.
const SLOW_BYTES: usize = 900 << 10;
const EVENT_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks at the server's sockets, for which the kernel searches a large table.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Times of one run.
#[derive(Debug, Clone, Copy)]
struct Times {
    write_timeout: Duration,
    heartbeat: Duration,
    /// A window counts as closed for long if the next probe is at least this far away.
    probe_pause: Duration,
    /// How long a reader pauses.
    reader_pause: Duration,
}

const SHORT_TIMES: Times = Times {
    write_timeout: Duration::from_secs(2),
    heartbeat: Duration::from_secs(1),
    probe_pause: Duration::ZERO,
    reader_pause: Duration::from_secs(5),
};

const REAL_TIMES: Times = Times {
    write_timeout: Duration::from_mins(1),
    heartbeat: Duration::from_secs(15),
    probe_pause: Duration::from_secs(100),
    reader_pause: Duration::from_secs(200),
};

/// How a client vanishes.
#[derive(Debug, Clone, Copy)]
struct Vanishing {
    client: u8,
    loss: Loss,
    until_closed_max: Duration,
}

/// What the cases of one run share.
struct Run<'n> {
    network: &'n Network,
    server: TestServer,
    times: Times,
    /// All vanishing clients were found.
    is_over: AtomicBool,
}

impl Run<'_> {
    /// Opens a stream as a client of the network, and reads its opening.
    async fn open_stream(&self, client: u8, receive_buffer: Option<usize>) -> TcpStream {
        let address: SocketAddr = self
            .server
            .url
            .trim_start_matches("http://")
            .parse()
            .unwrap();
        let socket = self.network.connect(client, address, receive_buffer);
        socket.set_nonblocking(true).unwrap();
        let mut socket = TcpStream::from_std(socket).unwrap();
        // An HTTP/1.0 response has no chunks, so all bytes are the body.
        let request = format!("GET /stream?channel=c{client} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut socket, "\n\n").await;
        socket
    }

    async fn publish_large(&self, client: u8, count: usize) {
        let data = "x".repeat(LARGE_EVENT_BYTES);
        for _ in 0..count {
            self.server
                .publish(&format!("c{client}"), "large", &data)
                .await;
        }
    }

    /// Lets a client vanish, and waits until the server has closed its connection.
    async fn vanish(&self, vanishing: Vanishing, case: &str) {
        let Vanishing {
            client,
            loss,
            until_closed_max,
        } = vanishing;
        let address = Network::client_address(client);
        assert!(ServerSocket::find(address).is_some(), "{case}");
        let start = Instant::now();
        self.network.vanish(client, loss);
        let closed = wait_for_socket(address, |socket| socket.is_none());
        assert!(
            timeout(until_closed_max, closed).await.is_ok(),
            "{case}: not closed within {until_closed_max:?}"
        );
        println!("{case}: closed after {:.1?}", start.elapsed());
    }

    async fn idle(&self, client: u8, loss: Loss) {
        let _socket = self.open_stream(client, None).await;
        let until_closed_max = self.times.heartbeat + self.times.write_timeout + SWEEP_MAX;
        let vanishing = Vanishing {
            client,
            loss,
            until_closed_max,
        };
        self.vanish(vanishing, &format!("idle, {loss:?}")).await;
    }

    async fn while_events_arrive(&self, client: u8) {
        let _socket = self.open_stream(client, None).await;
        let vanishing = Vanishing {
            client,
            loss: Loss::Silent,
            until_closed_max: self.times.write_timeout + SWEEP_MAX,
        };
        let publish = async {
            let mut tick = interval(EVENT_EVERY);
            loop {
                tick.tick().await;
                self.server.publish(&format!("c{client}"), "n", "1").await;
            }
        };
        tokio::select! {
            () = self.vanish(vanishing, "while events arrive") => {}
            () = publish => {}
        }
    }

    async fn with_a_closed_window(&self, client: u8) {
        let _socket = self.open_stream(client, Some(SMALL_BUFFER)).await;
        self.publish_large(client, LARGE_EVENTS).await;
        self.wait_for_closed_window(client, self.times.probe_pause)
            .await;
        let vanishing = Vanishing {
            client,
            loss: Loss::Silent,
            until_closed_max: CLOSED_WINDOW_MAX,
        };
        self.vanish(vanishing, "with a closed window").await;
    }

    async fn wait_for_closed_window(&self, client: u8, probe_pause: Duration) {
        let is_closed = |socket: Option<ServerSocket>| {
            let next_probe = socket.and_then(|socket| socket.next_probe);
            next_probe.is_some_and(|after| after >= probe_pause)
        };
        let limit = 2 * probe_pause + SWEEP_MAX;
        let closed = wait_for_socket(Network::client_address(client), is_closed);
        timeout(limit, closed).await.expect("the window closes");
    }

    /// Reads 1 KB/s until the vanishing clients were found.
    async fn read_slowly(&self, client: u8) {
        let mut socket = self.open_stream(client, None).await;
        self.publish_large(client, SLOW_BYTES / LARGE_EVENT_BYTES)
            .await;
        let mut tick = interval(SIP_EVERY);
        let mut sip = [0; SIP_BYTES];
        while !self.is_over.load(Ordering::Relaxed) {
            tick.tick().await;
            let count = within("bytes for the slow reader", socket.read(&mut sip)).await;
            assert!(count.unwrap() > 0, "the slow reader was closed");
        }
    }

    /// Pauses with a closed window, and then reads all that was sent.
    async fn read_after_a_pause(&self, client: u8) {
        let mut socket = self.open_stream(client, Some(SMALL_BUFFER)).await;
        self.publish_large(client, LARGE_EVENTS).await;
        self.server
            .publish(&format!("c{client}"), "n", "the last event")
            .await;
        self.wait_for_closed_window(client, Duration::ZERO).await;
        let pause_end = Instant::now() + self.times.reader_pause;
        wait_for_socket(Network::client_address(client), |socket| {
            assert!(socket.is_some(), "the pausing reader was closed");
            Instant::now() >= pause_end
        })
        .await;
        read_until(&mut socket, "data: the last event").await;
    }
}

/// Reads until the text has come.
async fn read_until(socket: &mut TcpStream, text: &str) {
    let reading = async {
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let count = socket.read_buf(&mut bytes).await.unwrap();
            assert!(count > 0, "the stream ended");
        }
    };
    within(text, reading).await;
}

/// Waits until the server's socket to a client satisfies the condition.
async fn wait_for_socket(client: IpAddr, condition: impl Fn(Option<ServerSocket>) -> bool) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !condition(ServerSocket::find(client)) {
        tick.tick().await;
    }
}

async fn run_all_cases(network: &Network, times: Times) {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let (write_timeout, heartbeat) = (seconds(times.write_timeout), seconds(times.heartbeat));
    let flags = ["--write-timeout", &write_timeout, "--heartbeat", &heartbeat];
    let run = Run {
        network,
        server: TestServer::at_address(Network::server_address(), &flags).await,
        times,
        is_over: AtomicBool::new(false),
    };
    let vanishing = async {
        let idle = join_all([run.idle(0, Loss::Silent), run.idle(1, Loss::Unplugged)]);
        tokio::join!(
            idle,
            run.while_events_arrive(2),
            run.with_a_closed_window(3)
        );
    };
    let until_over = async {
        tokio::join!(vanishing, run.read_after_a_pause(4));
        run.is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(until_over, run.read_slowly(5));
    assert_eq!(run.server.closed_streams("unreachable").await, 4);
    for other in ["stalled", "too_much_input"] {
        assert_eq!(run.server.closed_streams(other).await, 0, "{other}");
    }
    // The two readers have closed their streams, or are about to.
    assert!(run.server.closed_streams("client").await <= 2);
}

#[test]
fn clients_that_vanish_are_unreachable_and_slow_ones_are_not() {
    let times = match std::env::var_os(REAL_TIMES_VARIABLE) {
        Some(_) => REAL_TIMES,
        None => SHORT_TIMES,
    };
    let network = match Network::create(6) {
        Ok(network) => network,
        Err(reason) => return skip(&reason),
    };
    network.run_on_server_side(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(run_all_cases(&network, times));
    });
}
