//! The server's use of memory and open files stays bounded, whatever clients and Redis do.

use std::{path::PathBuf, process::Command};

use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{
    AnySocket, Backend, KilledWhenDropped, RedisServer, STAYS_ATTACHED, Subscriber, TestServer,
    all_at_once, clean, copy_program, ended, server_command, skip, until, within,
};

const MIB: usize = 1 << 20;

/// Peak memory of the server, in MiB; `None` if the system does not report it.
fn peak_mib(server: &TestServer) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    Some(kib.unwrap_or(0usize) >> 10)
}

fn assert_peak_below(server: &TestServer, mib: usize) {
    let Some(peak) = peak_mib(server) else {
        return skip("the memory of a process is read from /proc, which this system does not have");
    };
    println!("the server's peak is {peak} MiB, which may be {mib}");
    assert!(peak > 0 && peak < mib, "the server had {peak} MiB");
}

/// Adds numbered events of one MiB each to the channel `large`.
async fn add_large_events(redis: &RedisServer, count: usize) {
    let large = "x".repeat(MIB);
    for number in 0..count {
        let mut add = redis::cmd("XADD");
        add.arg("sse:{large}")
            .arg(format!("{}-0", number + 1))
            .arg("event")
            .arg("large")
            .arg("data");
        let _: String = redis
            .command(add.arg(format!("{number} {large}")).clone())
            .await
            .unwrap();
    }
}

fn number_in(data: &str) -> usize {
    data.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_read_a_few_at_a_time_after_any_other_read() {
    let redis = RedisServer::start_with(&[]).await;
    let server = TestServer::node(&redis, &["--redis-timeout", "500ms"]).await;
    server.publish_numbers("small", 0..5000).await;
    assert_eq!(server.history("small").await.len(), 5000);
    add_large_events(&redis, 100).await;
    let read = all_at_once(0..4, |_| async {
        let mut subscriber = server
            .subscribe_after("/stream?channel=large", Some("0-0"))
            .await;
        for expected in 0..5 {
            assert_eq!(number_in(&subscriber.next_event().await.data), expected);
        }
    });
    within("all large events arrive", read).await;
    let page: Value = server
        .get("/events?channel=large&limit=10000")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (page["events"].as_array().unwrap().len() < 10, &page["more"]),
        (true, &Value::Bool(true))
    );
    assert_peak_below(&server, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_reads_do_not_make_the_next_read_larger() {
    let redis = RedisServer::start_with(&[]).await;
    let server = TestServer::node(&redis, &[]).await;
    add_large_events(&redis, 60).await;
    // The tail of a quiet channel reads like this again and again.
    for _ in 0..6 {
        let page: Value = server
            .get("/events?channel=large&last_event_id=60-0")
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(
            (&page["gap"], page["events"].as_array().map(Vec::len)),
            (&Value::Null, Some(0))
        );
    }
    let before = sent_by(&redis).await;
    let page: Value = server
        .get("/events?channel=large")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(
        page["events"]
            .as_array()
            .is_some_and(|events| !events.is_empty()),
        "{}",
        page["gap"]
    );
    let sent_mib = (sent_by(&redis).await - before) / MIB;
    assert!(
        sent_mib < 45,
        "Redis sent {sent_mib} MiB for a page of four"
    );
}

/// Bytes that a Redis has sent to all its clients.
async fn sent_by(redis: &RedisServer) -> usize {
    let redis::Value::BulkString(info) = redis.run("INFO stats").await else {
        panic!("no text")
    };
    let info = String::from_utf8(info).unwrap();
    let bytes = info
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:")?.parse().ok());
    bytes.expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_that_wait_for_a_frozen_redis_have_a_memory_limit() {
    let redis = RedisServer::start_with(&[]).await;
    let server = TestServer::node(
        &redis,
        &["--publish-memory", "16MiB", "--redis-timeout", "300ms"],
    )
    .await;
    server.publish("sse", "click", "before").await;
    redis.run("CLIENT PAUSE 3000 ALL").await;
    let large = "x".repeat(MIB);
    let answers = all_at_once(0..60, |_| async {
        let response = server
            .try_publish("sse", "large", &large)
            .await
            .expect("an answer");
        let status = response.status();
        let answer: Value = response.json().await.expect("JSON");
        (
            status,
            answer["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    })
    .await;
    let mut refused = 0;
    for (status, code) in answers {
        if status != StatusCode::OK {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{code}");
            assert!(
                ["busy", "outcome_unknown", "broker_unavailable"].contains(&&*code),
                "{code}"
            );
            refused += 1;
        }
    }
    assert!(refused > 0, "Redis was not frozen");
    assert_peak_below(&server, 160);
    until("publishing works again", async || {
        let response = server.try_publish("sse", "click", "after").await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
}

/// Publishes 60 MiB concurrently to a server that holds 16 MiB, and checks that all bodies get
/// their turn.
async fn assert_bodies_take_turns(body: impl Fn() -> reqwest::Body) {
    let server = TestServer::start_with(Backend::Memory, &["--publish-memory", "16MiB"]).await;
    let answers = all_at_once(0..60, |_| async {
        let request = server
            .http
            .post(server.at("/event/large"))
            .header("content-type", "text/plain");
        let response = request.body(body()).send().await.expect("an answer");
        (response.status(), response.text().await.expect("text"))
    })
    .await;
    for (status, text) in answers {
        assert_eq!(status, StatusCode::OK, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_all_fit_into_the_memory_take_turns() {
    assert_bodies_take_turns(|| "x".repeat(MIB).into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_unknown_length_that_do_not_all_fit_take_turns_too() {
    let piece = bytes::Bytes::from("x".repeat(MIB / 16));
    let pieces = || {
        futures::stream::iter(
            vec![piece.clone(); 16]
                .into_iter()
                .map(Ok::<_, std::io::Error>),
        )
    };
    assert_bodies_take_turns(|| reqwest::Body::wrap_stream(pieces())).await;
}

/// Subscribes; returns `None` if the server rejects the stream, after a check that it ended
/// properly.
async fn try_subscribe(server: &TestServer) -> Option<Subscriber> {
    let response = server.get("/stream").await.expect("an answer");
    let content_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        content_type.starts_with("text/event-stream"),
        "{content_type}"
    );
    let mut subscriber = Subscriber::new(response);
    let opening = subscriber.next_block().await;
    let retry_ms = opening
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("retry: ")?.parse::<u64>().ok());
    if retry_ms == Some(1234) {
        return Some(subscriber);
    }
    assert!(
        retry_ms.is_some_and(|ms| (5_000..=15_000).contains(&ms)),
        "{opening}"
    );
    assert!(
        opening.lines().skip(1).all(|line| line.starts_with(':')) && opening.contains("\n:"),
        "{opening}"
    );
    assert_eq!(subscriber.try_next_block().await, None);
    None
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_leave_connections_for_publishers_and_health_checks() {
    let server = TestServer::under("ulimit -n 200", &["--retry", "1234ms"]).await;
    let mut subscribers = Vec::new();
    while let Some(subscriber) = try_subscribe(&server).await {
        subscribers.push(subscriber);
        assert!(subscribers.len() < 200, "as many subscribers as open files");
    }
    assert!(
        subscribers.len() >= 16,
        "only {} subscribers",
        subscribers.len()
    );
    for turned_away in 1..20 {
        let rejected = server
            .metric(r#"sse_streams_rejected_total{reason="limit"}"#)
            .await;
        assert!((rejected - f64::from(turned_away)).abs() < 0.5);
        assert_eq!(
            server.get("/health/live").await.unwrap().status(),
            StatusCode::OK
        );
        server
            .publish("sse", "click", &turned_away.to_string())
            .await;
        assert!(try_subscribe(&server).await.is_none());
    }
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.take_data(2).await, ["1", "2"]);
    }
    // After one subscriber disconnects, one more can subscribe.
    drop(subscribers.pop());
    subscribers.push(until("a stream is free", async || try_subscribe(&server).await).await);
    assert!(try_subscribe(&server).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_subscribers_are_not_counted_as_subscribers() {
    let server = TestServer::start(Backend::Memory).await;
    let subscribers = [
        server.subscribe("/stream").await,
        server.subscribe("/stream").await,
    ];
    assert!((server.metric("sse_subscribers").await - 2.0).abs() < 0.5);
    let metrics = server.get("/metrics").await.unwrap().text().await.unwrap();
    for reason in ["limit", "dropped"] {
        let line = format!("sse_streams_rejected_total{{reason=\"{reason}\"}} 0\n");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
    drop(subscribers);
}

/// Memory of the server now, in KiB; `None` if the system does not report it.
fn resident_kib(server: &TestServer) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
    status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    })
}

/// Opens streams of these channels one after another, so that concurrent requests do not distort
/// the measurement.
async fn open_streams(
    server: &TestServer,
    channels: impl Iterator<Item = String>,
) -> Vec<tokio::net::TcpStream> {
    open_streams_over(async || server.connect().await, channels).await
}

async fn open_streams_over<S: AnySocket>(
    connect: impl AsyncFn() -> S,
    channels: impl Iterator<Item = String>,
) -> Vec<S> {
    let mut streams = Vec::new();
    for channel in channels {
        let mut stream = connect().await;
        stream
            .write_all(
                format!("GET /stream?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .as_bytes(),
            )
            .await
            .unwrap();
        let mut opening = Vec::new();
        while !opening.ends_with(b"\n\n\r\n") {
            assert!(
                within("the opening", stream.read_buf(&mut opening))
                    .await
                    .unwrap()
                    > 0
            );
        }
        streams.push(stream);
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_needs_little_memory_and_none_without_subscribers() {
    const CHANNELS: u16 = 400;
    if STAYS_ATTACHED {
        return skip(
            "without fan-out threads, streams cost so much that channels cannot be measured",
        );
    }
    let server = TestServer::start(Backend::Memory).await;
    let Some(_) = resident_kib(&server) else {
        return skip("the memory of a process is read from /proc, which this system does not have");
    };
    let warm = open_streams(&server, (0..CHANNELS * 2).map(|_| "one".to_owned())).await;
    let before = resident_kib(&server).unwrap();
    let mut peaks = Vec::new();
    for round in 0..5 {
        // Each round uses channels that never existed before.
        let two_each = open_streams(
            &server,
            (0..CHANNELS * 2).map(|nth| format!("{round}-{}", nth / 2)),
        )
        .await;
        peaks.push(resident_kib(&server).unwrap().saturating_sub(before));
        let there = f64::from(CHANNELS * 4);
        assert!((server.metric("sse_subscribers").await - there).abs() < 0.5);
        drop(two_each);
        until("the streams are gone", async || {
            (server.metric("sse_subscribers").await < there / 2.0 + 0.5).then_some(())
        })
        .await;
    }
    println!(
        "{CHANNELS} channels with two subscribers took these KiB, round after round: {peaks:?}"
    );
    let channels = usize::from(CHANNELS);
    assert!(
        peaks[0] < channels * 4,
        "{} KiB for {CHANNELS} channels",
        peaks[0]
    );
    // The first round may find memory that the allocator has kept.
    assert!(
        peaks[4] < peaks[0].max(peaks[1]) + channels,
        "removed channels still use memory: {peaks:?}"
    );
    drop(warm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_a_unix_socket_leaves_the_memory_of_its_http_worker() {
    const STREAMS: usize = 400;
    if STAYS_ATTACHED {
        return skip("without fan-out threads, streams stay with the HTTP workers");
    }
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    let Some(_) = resident_kib(&server) else {
        return skip("the memory of a process is read from /proc, which this system does not have");
    };
    let open = async |count| {
        let channels = (0..count).map(|_| "one".to_owned());
        open_streams_over(async || server.connect_unix().await, channels).await
    };
    let _warm = open(STREAMS).await;
    let before = resident_kib(&server).unwrap();
    let _streams = open(STREAMS).await;
    let added = resident_kib(&server).unwrap().saturating_sub(before);
    println!("{STREAMS} streams over a unix socket took {added} KiB");
    // A stream that stays with its HTTP worker takes 12 KiB.
    assert!(added < STREAMS * 4, "{added} KiB for {STREAMS} streams");
}

/// A build outside the checkout, made by `scripts/test --full`; without it, the usual build.
const OUTSIDE_BUILD_VARIABLE: &str = "TEST_OUTSIDE_BUILD";

#[tokio::test(flavor = "multi_thread")]
async fn the_program_configures_its_allocator_for_any_build_and_directory() {
    if !cfg!(target_os = "linux") {
        return skip("only the program for Linux uses jemalloc");
    }
    let directory = TempDir::new().unwrap();
    let built = std::env::var_os(OUTSIDE_BUILD_VARIABLE)
        .map_or_else(|| server_command().get_program().into(), PathBuf::from);
    let program = directory.path().join("sse-server");
    copy_program(built, &program);
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let child = clean(Command::new(program))
        .args(["--memory", "--bind", "127.0.0.1:0"])
        .current_dir(directory.path())
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .stdout(std::fs::File::create(&stdout).unwrap())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let mut server = KilledWhenDropped(child);
    let listens = async || {
        std::fs::read(&stdout)
            .unwrap()
            .ends_with(b"\n")
            .then_some(())
    };
    until("the server listens", listens).await;
    let pid = Pid::from_child(&server.0);
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(ended(&mut server.0).await.code(), Some(0));
    // `opt` is the setting of the build and the environment: jemalloc's default of 10 s. The
    // program has set the other value.
    let statistics = std::fs::read_to_string(&stderr).unwrap();
    let setting = statistics
        .lines()
        .find(|line| line.contains("opt.dirty_decay_ms"))
        .unwrap_or_else(|| panic!("no setting in {statistics}"));
    assert_eq!(
        setting.trim(),
        "opt.dirty_decay_ms: 10000 (arenas.dirty_decay_ms: 1000)"
    );
}
