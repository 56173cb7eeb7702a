//! The two text formats of `GET /metrics`: each is valid, and both have the same samples.

use std::collections::BTreeMap;

use reqwest::Response;

use crate::common::{Backend, TestServer, until};

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
        text.contains("sse_gaps_total{").then_some(text)
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
    assert_eq!(types["sse_publish_latency_seconds"], "histogram");
    assert_eq!(open_types["sse_published_bytes"], "counter");
    assert!(!prometheus.contains("# UNIT") && !prometheus.contains("# EOF"));
    for name in types.keys() {
        assert!(prometheus.contains(&format!("# HELP {name} ")), "{name}");
    }
}
