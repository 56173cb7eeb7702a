//! `--drain`: before a stop, streams end one after another, publishes work, and no client loses an
//! event.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::StatusCode;
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, task::JoinSet};

use crate::common::{
    Backend, Client, RawConnection, RedisServer, TestServer, ended, only_response, refusal, until,
    within,
};

const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Opens streams, and waits for their openings.
async fn open_streams(server: &TestServer, count: usize) -> Vec<RawConnection> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = RawConnection::send(server, STREAM).await;
        let head = stream.head().await;
        stream.body_until(&head, "id: ").await;
        streams.push(stream);
    }
    streams
}

async fn wait_until_draining(server: &TestServer) {
    until("the server drains", async || {
        let response = server.get("/health/ready").await.ok()?;
        (response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

/// Returns the reconnection time that the text sets last.
fn last_retry(text: &str) -> Duration {
    let mut times = text.lines().filter_map(|line| line.strip_prefix("retry: "));
    Duration::from_millis(times.next_back().unwrap().parse().unwrap())
}

async fn assert_stops(server: &mut TestServer) {
    let status = within("the end", ended(server.child())).await;
    assert_eq!(status.code(), Some(0));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_publishes_and_opens_no_streams() {
    let server = TestServer::start_with(Backend::Memory, &["--drain", "1h"]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.signal("TERM");
    wait_until_draining(&server).await;
    let ready = server.get("/health/ready").await.unwrap();
    refusal(ready, StatusCode::SERVICE_UNAVAILABLE, "draining").await;
    assert_eq!(server.get("/health/live").await.unwrap().status(), 200);
    server.publish("sse", "click", "x").await;
    assert_eq!(subscriber.next_event().await.data, "x");
    let (head, body) = only_response(&server, STREAM).await;
    assert_eq!(head.status, 200);
    assert!(
        body.contains("about to stop") && body.ends_with("\n\n"),
        "{body}"
    );
    // The log is away until the server is back, so the client waits for longer than the drain.
    assert!(last_retry(&body) > Duration::from_hours(1), "{body}");
    let rejected = server
        .metric(r#"sse_streams_rejected_total{reason="draining"}"#)
        .await;
    assert!((rejected - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_and_sigint_stop_the_server_at_once() {
    for signals in [["TERM", "TERM"], ["TERM", "INT"], ["INT", "INT"]] {
        let mut server = TestServer::start_with(Backend::Memory, &["--drain", "1h"]).await;
        let streams = open_streams(&server, 2).await;
        server.signal(signals[0]);
        if signals[0] == "TERM" {
            wait_until_draining(&server).await;
            server.signal(signals[1]);
        }
        assert_stops(&mut server).await;
        for mut stream in streams {
            let head = stream.head().await;
            stream.body_to_the_close(&head).await;
        }
    }
}

crate::on_every_broker! {
    async fn all_streams_end_between_two_blocks_within_the_time(backend: Backend) {
        let mut server = TestServer::start_with(backend, &["--drain", "2s"]).await;
        let streams = open_streams(&server, 30).await;
        server.signal("TERM");
        let closed = join_all(streams.into_iter().map(async |mut stream: RawConnection| {
            let head = stream.head().await;
            stream.body_to_the_close(&head).await
        }));
        for body in within("all ends", closed).await {
            assert!(body.ends_with("\n\n"), "{body:?}");
            // Over Redis another node serves the client, so it keeps the time of the opening.
            let expected = if backend == Backend::Redis { 3 } else { 5 };
            assert_eq!(last_retry(&body), Duration::from_secs(expected), "{body:?}");
        }
        assert_stops(&mut server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_cannot_be_finished_in_time_is_cut() {
    let mut server = TestServer::start_with(Backend::Memory, &["--drain", "1s"]).await;
    let mut stalled = server.connect().await;
    stalled.write_all(STREAM.as_bytes()).await.unwrap();
    until("the client is subscribed", async || {
        (server.metric("sse_subscribers").await >= 1.0).then_some(())
    })
    .await;
    let large = "x".repeat(900_000);
    for _ in 0..8 {
        server.publish("sse", "click", &large).await;
    }
    until("the stream is blocked", async || {
        (server.metric("sse_blocked_bytes").await > 0.0).then_some(())
    })
    .await;
    server.signal("TERM");
    assert_stops(&mut server).await;
    let mut received = Vec::new();
    let _ = within("the end", stalled.read_to_end(&mut received)).await;
    assert!(!received.ends_with(b"0\r\n\r\n"));
}

/// What a client of the rolling restart has seen.
#[derive(Default)]
struct Seen {
    numbers: Vec<usize>,
    /// When it noticed the end of a stream, and of which node.
    ends: Vec<(usize, Instant)>,
}

/// Follows the numbers up to `last`, and reconnects to the other node when a stream ends.
async fn follow(client: Client, nodes: [String; 2], first: usize, last: usize) -> Seen {
    let (mut seen, mut node, mut last_id) = (Seen::default(), first, String::new());
    loop {
        let request = client.get(format!("{}/stream?from=oldest", nodes[node]));
        let response = request.header("last-event-id", &last_id).send().await;
        if let Ok(response) = response {
            assert_eq!(response.status(), StatusCode::OK);
            let mut subscriber = crate::common::Subscriber::new(response);
            let mut is_open = false;
            while let Some(block) = subscriber.try_next_block().await {
                is_open |= block.contains("id: ");
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                seen.numbers
                    .extend(data.map(|number| number.parse::<usize>().unwrap()));
                if seen.numbers.last() == Some(&last) {
                    return seen;
                }
            }
            if is_open {
                seen.ends.push((node, Instant::now()));
                last_id.clone_from(&subscriber.last_event_id);
            }
        }
        node = 1 - node;
        // The server asked for this with `--retry`.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks that no second has more than twice the average number of ends.
fn assert_spread(ends: &[Instant], streams: u32) {
    assert!(
        ends.len() >= streams as usize / 3,
        "only {} streams ended",
        ends.len()
    );
    let first = ends.iter().min().unwrap();
    let mut per_second = BTreeMap::<u64, usize>::new();
    for end in ends {
        *per_second.entry((*end - *first).as_secs()).or_default() += 1;
    }
    let time = *ends.iter().max().unwrap() - *first;
    let most = *per_second.values().max().unwrap();
    // `most` per second is at most twice the number of all per their time.
    let allowed = 2 * 1000 * u128::try_from(ends.len()).unwrap();
    let found = u128::try_from(most).unwrap() * time.as_millis();
    assert!(found <= allowed, "{per_second:?} in {time:?}");
}

/// Restarts two nodes one after the other under `streams` streams.
async fn rolling_restart(streams: u32, drain: &str) {
    let redis = RedisServer::start().await;
    let flags = ["--drain", drain, "--retry", "100ms"];
    let mut nodes = [
        TestServer::node(&redis, &flags).await,
        TestServer::node(&redis, &flags).await,
    ];
    let urls = [nodes[0].url.clone(), nodes[1].url.clone()];
    let last = 40;
    let mut clients = JoinSet::new();
    for number in 0..streams {
        let client = nodes[0].http.clone();
        let first = usize::from(number % 2 == 1);
        clients.spawn(follow(client, urls.clone(), first, last));
    }
    until("all streams are open", async || {
        let open =
            nodes[0].metric("sse_subscribers").await + nodes[1].metric("sse_subscribers").await;
        (open >= f64::from(streams)).then_some(())
    })
    .await;
    let mut published = 0;
    for node in 0..2 {
        nodes[node].signal("TERM");
        wait_until_draining(&nodes[node]).await;
        // Each node publishes while it drains.
        for _ in 0..10 {
            nodes[node]
                .publish("sse", "number", &published.to_string())
                .await;
            published += 1;
        }
        assert_stops(&mut nodes[node]).await;
        nodes[1 - node]
            .publish("sse", "number", &published.to_string())
            .await;
        published += 1;
        nodes[node].restart().await;
    }
    for number in published..=last {
        nodes[0].publish("sse", "number", &number.to_string()).await;
    }
    let mut ends = [Vec::new(), Vec::new()];
    while let Some(seen) = within("all clients have everything", clients.join_next()).await {
        let seen = seen.unwrap();
        assert_eq!(seen.numbers, (0..=last).collect::<Vec<_>>());
        for (node, at) in seen.ends {
            ends[node].push(at);
        }
    }
    for ends in ends {
        assert_spread(&ends, streams);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_spreads_the_reconnects() {
    rolling_restart(300, "6s").await;
}

/// Cases with very many streams; only `scripts/test --full` runs them.
mod full {
    #[tokio::test(flavor = "multi_thread")]
    async fn a_rolling_restart_with_5000_streams_spreads_the_reconnects() {
        crate::common::raise_the_limit_of_open_files();
        super::rolling_restart(5000, "30s").await;
    }
}
