//! `GET /metrics`: its two text formats are valid and have the same samples, and these are the
//! documented ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use reqwest::Response;

use crate::common::{Backend, RedisServer, TestServer, until};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn get(server: &TestServer, accept: Option<&str>) -> Response {
    let mut request = server.http.get(server.at("/metrics"));
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    request.send().await.unwrap()
}

/// The types of all metrics, and the names of all samples. Checks that a sample follows the type of
/// its metric, whose name it has, apart from a suffix that this type allows.
fn parse(text: &str, counter_suffix: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
    let (mut metric, mut suffixes) = (String::new(), vec![]);
    for line in text.lines() {
        if let Some(of_type) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of_type.split_once(' ').unwrap();
            suffixes = match kind {
                "counter" => vec![counter_suffix],
                "gauge" => vec![""],
                "info" => vec!["_info"],
                "histogram" => vec!["_bucket", "_sum", "_count"],
                _ => panic!("{line}"),
            };
            name.clone_into(&mut metric);
            let earlier = types.insert(name.to_owned(), kind.to_owned());
            assert_eq!(earlier, None, "{line}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(&*metric).expect(line);
            assert!(suffixes.contains(&suffix), "{line}");
            samples.push(line.rsplit_once(' ').unwrap().0.to_owned());
        }
    }
    (types, samples)
}

/// The metrics that the page for operators lists: the name, the label and the type of each.
fn documented() -> BTreeMap<String, (Option<String>, String)> {
    let page = include_str!("../../../../docs/operations/metrics.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (name, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
        let is_type = ["counter", "gauge", "histogram"].contains(&kind);
        let (name, label) = match name.split_once('{') {
            Some((name, label)) => (name, Some(label.trim_end_matches('}').to_owned())),
            None => (name, None),
        };
        is_type.then(|| (name.to_owned(), (label, kind.to_owned())))
    };
    page.lines().filter_map(row).collect()
}

#[tokio::test]
async fn a_fresh_server_has_a_sample_of_every_documented_metric() {
    let server = TestServer::start(Backend::Memory).await;
    let text = get(&server, None).await.text().await.unwrap();
    let (types, samples) = parse(&text, "");
    let mut documented = documented();
    // Those of the primaries of Redis.
    documented.retain(|_, (label, _)| label.as_deref() != Some("shard"));
    if cfg!(not(target_os = "linux")) {
        documented.retain(|name, _| !name.starts_with("process_"));
    }
    assert!(documented.len() > 25, "{documented:?}");
    let kinds = documented.iter().map(|(name, (_, kind))| (name, kind));
    assert_eq!(kinds.collect::<Vec<_>>(), types.iter().collect::<Vec<_>>());
    for (name, (label, kind)) in &documented {
        let start = match (label, kind.as_str()) {
            (Some(label), _) => format!("{name}{{{label}=\""),
            (None, "histogram") => format!("{name}_count"),
            (None, _) => name.clone(),
        };
        assert!(
            samples.iter().any(|sample| sample.starts_with(&start)),
            "{start}"
        );
    }
    for line in text
        .lines()
        .filter(|line| line.starts_with("sse_") && line.contains("_total"))
    {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test]
async fn a_node_over_redis_has_the_documented_metrics_of_its_primary() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "1").await;
    subscriber.take_data(1).await;
    let (all, shard) = (
        documented(),
        format!("{{shard=\"127.0.0.1:{}\"}} ", redis.port()),
    );
    let documented: Vec<&String> = all
        .iter()
        .filter(|(_, (label, _))| label.as_deref() == Some("shard"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(documented.len(), 6);
    until(
        "the primary was checked and has notified the node",
        async || {
            let text = get(&server, None).await.text().await.unwrap();
            let value = |name: &str| {
                let line = text
                    .lines()
                    .find(|line| line.starts_with(&format!("{name}{shard}")));
                line.unwrap_or_else(|| panic!("{name} in\n{text}"))[name.len() + shard.len()..]
                    .parse::<f64>()
                    .unwrap()
            };
            for name in &documented {
                assert!(value(name) >= 0.0);
            }
            let has_value = [
                "sse_redis_up",
                "sse_redis_round_trip_seconds",
                "sse_redis_notifications_total",
            ];
            has_value.iter().all(|name| value(name) > 0.0).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn every_value_of_a_label_that_a_page_lists_exists_from_the_start() {
    let server = TestServer::start(Backend::Memory).await;
    let text = get(&server, None).await.text().await.unwrap();
    let values = |metric: &str| -> BTreeSet<String> {
        let value = |line: &str| {
            let rest = line.strip_prefix(metric)?.split('"').nth(1)?;
            Some(rest.to_owned())
        };
        text.lines().filter_map(value).collect()
    };
    let codes = include_str!("../../../../docs/http-api.md")
        .lines()
        .filter_map(|line| {
            let (status, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
            status.parse::<u16>().ok()?;
            Some(rest.split_once('`')?.0.to_owned())
        });
    assert_eq!(values("sse_requests_rejected_total{"), codes.collect());
    let reasons = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        values("sse_streams_rejected_total{"),
        reasons(&[
            "access_unavailable",
            "draining",
            "dropped",
            "limit",
            "rate_limited"
        ])
    );
    assert_eq!(
        values("sse_streams_closed_total{"),
        reasons(&[
            "closed",
            "expired",
            "right_lost",
            "blocked_bytes",
            "unreachable",
            "client",
            "stalled",
            "tls_keys_used",
            "too_much_input",
            "until_reached",
            "life",
            "drain",
            "shutdown"
        ])
    );
    assert_eq!(
        values("sse_rate_limited_total{"),
        reasons(&[
            "events", "bytes", "streams", "opens", "channels", "searches"
        ])
    );
    assert_eq!(
        values("sse_gaps_total{"),
        reasons(&["trimmed", "unknown", "lost-tail", "damaged", "deleted"])
    );
}

#[tokio::test]
async fn rejected_requests_are_counted_by_code() {
    let server = TestServer::start(Backend::Memory).await;
    let page = server
        .http
        .post(server.at("/event/click"))
        .header("origin", "https://example.org");
    page.body("x").send().await.unwrap();
    server.get("/nowhere").await.unwrap();
    server.get("/stream?channel=%20").await.unwrap();
    server.get("/events?channel=%20").await.unwrap();
    let large = server
        .http
        .post(server.at("/event/click"))
        .header("expect", "100-continue");
    large.body(vec![b'x'; 2 << 20]).send().await.unwrap();
    let text = get(&server, None).await.text().await.unwrap();
    for (code, count) in [
        ("origin_not_allowed", 1),
        ("not_found", 1),
        ("invalid_channel", 2),
        ("too_large", 1),
        ("invalid_action", 0),
    ] {
        let line = format!("sse_requests_rejected_total{{code=\"{code}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_metrics_of_the_process_are_those_of_the_server() {
    let server = TestServer::start(Backend::Memory).await;
    let started = server.metric("process_start_time_seconds").await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!(
        (now - 3600.0..now + 5.0).contains(&started),
        "{started}, now {now}"
    );
    let before = server.metric("process_open_fds").await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(server.subscribe("/stream").await);
    }
    // Connections of earlier requests may have been open before.
    let open = server.metric("process_open_fds").await;
    assert!(open >= before + 25.0, "{open}, {before} before");
    assert!(open < server.metric("process_max_fds").await);
    assert!(server.metric("process_threads").await > 1.0);
    assert!(server.metric("process_resident_memory_bytes").await > f64::from(1 << 20));
}

/// The channels, events and bytes of the log.
async fn log_size(server: &TestServer) -> [u64; 3] {
    let mut size = [0; 3];
    for (value, name) in size
        .iter_mut()
        .zip(["sse_channels", "sse_log_events", "sse_log_bytes"])
    {
        *value = server.metric(name).await.to_string().parse().unwrap();
    }
    size
}

crate::on_every_broker! {
    async fn the_size_of_the_log_follows_what_is_published_and_trimmed(backend: Backend) {
        let is_redis = backend == Backend::Redis;
        // Over Redis, the size is updated when old events are trimmed: here every two seconds.
        let age = if is_redis { "8s" } else { "1h" };
        let flags = ["--history-age", age, "--history-events", "100"];
        let server = TestServer::start_with(backend, &flags).await;
        for channel in ["a", "b", "c"] {
            server.publish(channel, "click", "x").await;
        }
        server.publish_numbers("a", 0..9).await;
        let found = until("the size", async || {
            let size = log_size(&server).await;
            (size[0] == 3).then_some(size)
        });
        let [_, events, bytes] = found.await;
        // Over Redis, a round may come between two publishes.
        assert!(if is_redis { (3..=12).contains(&events) } else { events == 12 }, "{events}");
        assert!(bytes > 12, "{bytes}");
        server.publish_numbers("b", 0..1000).await;
        until("the trimmed size", async || {
            let [channels, events, larger] = log_size(&server).await;
            assert_eq!(channels, 3);
            // Redis trims whole nodes of a stream.
            let is_trimmed = if is_redis { (100..1000).contains(&events) } else { events == 111 };
            (is_trimmed && larger > bytes).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_size_of_the_log_is_known_after_a_restart() {
    let mut server = TestServer::start(Backend::Embedded).await;
    server.publish_numbers("a", 0..7).await;
    let size = log_size(&server).await;
    assert_eq!(size[..2], [1, 7]);
    server.kill_and_restart().await;
    assert_eq!(log_size(&server).await, size);
}

#[tokio::test]
async fn openmetrics_is_sent_only_to_clients_that_prefer_it() {
    let server = TestServer::start(Backend::Memory).await;
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    for (accept, content_type) in [
        (None, PROMETHEUS),
        (Some("*/*"), PROMETHEUS),
        (Some("text/plain"), PROMETHEUS),
        (
            Some("text/plain,application/openmetrics-text;q=0.9"),
            PROMETHEUS,
        ),
        (Some("nonsense"), PROMETHEUS),
        (Some("application/openmetrics-text"), OPENMETRICS),
        (Some(prometheus), OPENMETRICS),
    ] {
        let response = get(&server, accept).await;
        assert_eq!(
            response.headers()["content-type"],
            content_type,
            "{accept:?}"
        );
        assert_eq!(response.headers()["vary"], "Accept");
        let text = response.text().await.unwrap();
        assert_eq!(text.ends_with("# EOF\n"), content_type == OPENMETRICS);
    }
}

#[tokio::test]
async fn both_formats_have_correct_types_and_the_same_samples() {
    let server = TestServer::start(Backend::Memory).await;
    server.publish("sse", "click", "x").await;
    // A stream that starts behind the history gets a gap, which has a label.
    let _stream = server.subscribe_after("/stream", Some("5-5")).await;
    let openmetrics = until("the gap is counted", async || {
        let response = get(&server, Some("application/openmetrics-text")).await;
        let text = response.text().await.unwrap();
        text.contains("sse_gaps_total{reason=\"unknown\"} 1")
            .then_some(text)
    })
    .await;
    let prometheus = get(&server, None).await.text().await.unwrap();
    let (open_types, open_samples) = parse(&openmetrics, "_total");
    let (types, samples) = parse(&prometheus, "");
    assert_eq!(samples, open_samples);
    assert!(samples.contains(&"sse_events_published_total".to_owned()));
    assert_eq!(types["sse_events_published_total"], "counter");
    assert_eq!(types["sse_published_bytes_total"], "counter");
    assert_eq!(types["sse_subscribers"], "gauge");
    assert_eq!(types["sse_build_info"], "gauge");
    assert_eq!(open_types["sse_build"], "info");
    #[cfg(target_os = "linux")]
    assert_eq!(types["process_cpu_seconds_total"], "counter");
    assert_eq!(types["sse_publish_latency_seconds"], "histogram");
    assert_eq!(open_types["sse_published_bytes"], "counter");
    assert!(!prometheus.contains("# UNIT") && !prometheus.contains("# EOF"));
    for name in types.keys() {
        assert!(prometheus.contains(&format!("# HELP {name} ")), "{name}");
    }
}
