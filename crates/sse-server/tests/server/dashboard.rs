//! The dashboard: who may load it, what its routes return, and what its feed sends.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::common::{Backend, RedisServer, Subscriber, TestServer, client, refusal, until, within};

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

async fn get(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = server.http.get(server.at(path));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.send().await.unwrap()
}

async fn json_of(server: &TestServer, path: &str) -> Value {
    let response = server.get(path).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.json().await.unwrap()
}

/// Opens feeds from 127.0.0.`last`, as many as one client may have. One more must be rejected.
async fn fill_part(server: &TestServer, last: u8, path: &str, part: usize) -> Vec<Response> {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let http = client().local_address(address).build().unwrap();
    let mut feeds = Vec::new();
    for _ in 0..part {
        let response = http.get(server.at(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path} {last}");
        feeds.push(response);
    }
    let response = http.get(server.at(path)).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let message = refusal(response, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    assert!(
        message.contains(&format!("{part} for one client")),
        "{message}"
    );
    feeds
}

/// Reads a feed until it has an event of this name that `wanted` accepts.
async fn feed_event(feed: &mut Subscriber, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let reading = async {
        loop {
            let event = feed.next_event().await;
            let data: Value = serde_json::from_str(&event.data).unwrap();
            if event.event == name && wanted(&data) {
                return data;
            }
        }
    };
    within(name, reading).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_this_machine_gets_the_page_and_other_clients_the_routes() {
    let server = TestServer::start(Backend::Memory).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.svg", "image/svg+xml"),
    ] {
        let response = get(&server, path, &[("accept", HTML)]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        for (name, value) in [
            ("content-type", content_type),
            ("content-security-policy", POLICY),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.headers()[name], value, "{path}: {name}");
        }
        let varies = response
            .headers()
            .get("vary")
            .is_some_and(|vary| vary == "Accept");
        assert_eq!(varies, path == "/");
        let head = server.http.head(server.at(path)).header("accept", HTML);
        let head = head.send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert_eq!(head.text().await.unwrap(), "");
        // A link on another site leads here; a proxy on this machine must not.
        let linked = get(
            &server,
            path,
            &[("accept", HTML), ("sec-fetch-site", "cross-site")],
        );
        assert_eq!(linked.await.status(), StatusCode::OK, "{path}");
        let proxied = get(
            &server,
            path,
            &[("accept", HTML), ("x-forwarded-for", "192.0.2.1")],
        );
        refusal(proxied.await, StatusCode::FORBIDDEN, "admin_needs_rules").await;
    }
    for accept in ["*/*", "application/json", "text/html;q=0"] {
        let response = get(&server, "/", &[("accept", accept)]).await;
        assert_eq!(response.headers()["vary"], "Accept");
        let message = refusal(response, StatusCode::NOT_FOUND, "not_found").await;
        assert!(message.contains("GET /stream"), "{message}");
    }
    for path in [
        "/admin/stats",
        "/admin/events",
        "/admin/settings",
        "/admin/channels/busiest",
        "/admin/trace",
        "/admin/nodes",
    ] {
        let proxied = get(&server, path, &[("forwarded", "for=192.0.2.1")]).await;
        refusal(proxied, StatusCode::FORBIDDEN, "admin_needs_rules").await;
        let unknown = get(&server, &format!("{path}?bogus=1"), &[]).await;
        refusal(unknown, StatusCode::BAD_REQUEST, "unknown_parameter").await;
    }
    let check = server.http.post(server.at("/admin/access"));
    let check = check.json(&json!({"token": "x"})).send().await.unwrap();
    refusal(check, StatusCode::BAD_REQUEST, "invalid_request").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_shows_what_happens() {
    let flags = ["--history-events", "3", "--streams-max", "100"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let response = get(&server, "/admin/events", &[]).await;
    assert_eq!(
        response.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let mut feed = Subscriber::new(response);
    let history = feed_event(&mut feed, "history", |_| true).await;
    assert_eq!(history["columns"][0], "time_ms");
    feed_event(&mut feed, "incidents", |list| list == &json!([])).await;
    let stats = feed_event(&mut feed, "stats", |_| true).await;
    assert_eq!(
        (&stats["broker"], &stats["ready"], &stats["problems"]),
        (&json!("memory"), &json!(true), &json!([]))
    );
    // Once per second from now on.
    feed_event(&mut feed, "stats", |_| true).await;

    let mut subscriber = server.subscribe("/stream").await;
    for number in 0..5 {
        server.publish("sse", "click", &number.to_string()).await;
    }
    while subscriber.next_event().await.data != "4" {}
    let stats = feed_event(&mut feed, "stats", |stats| {
        stats["published_total"] == 5
            && stats["deliveries_total"] == 5
            && (crate::common::STAYS_ATTACHED || stats["delivery_us"]["p99"].is_u64())
    });
    let stats = stats.await;
    let streams = &stats["budgets"][0];
    assert_eq!(streams, &json!({"name": "streams", "used": 1, "max": 100}));

    let rejected = get(&server, "/events?channel=%3Cb%3E", &[]).await;
    assert_eq!(rejected.status(), StatusCode::BAD_REQUEST);
    let wanted = |list: &Value| list[0]["kind"] == "rejection";
    let incidents = feed_event(&mut feed, "incidents", wanted).await;
    assert_eq!(
        (&incidents[0]["reason"], &incidents[0]["caller"]),
        (&json!("invalid_channel"), &json!("127.0.0.1"))
    );
    // Event 1 is trimmed.
    let mut late = server.subscribe_after("/stream", Some("0-0")).await;
    assert_eq!(late.next_event().await.event, "gap");
    let gap = feed_event(&mut feed, "incidents", |list| list[0]["kind"] == "gap").await;
    assert!(
        ["trimmed", "unknown"]
            .map(Value::from)
            .contains(&gap[0]["reason"]),
        "{gap}"
    );
    drop(late);
    let ended = feed_event(&mut feed, "streams", |list| {
        list.as_array()
            .unwrap()
            .iter()
            .any(|stream| stream["kind"] == "closed")
    });
    ended.await;
    let stats = json_of(&server, "/admin/stats").await;
    let problems = stats["problems"].as_array().unwrap();
    assert!(
        problems
            .iter()
            .any(|problem| problem == "1 gap was sent in the last minute."),
        "{stats}"
    );
    // The next feed begins with what is kept.
    let mut second = Subscriber::new(get(&server, "/admin/events", &[]).await);
    feed_event(&mut second, "incidents", |list| {
        list.as_array().unwrap().len() >= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_part_of_the_feeds_and_all_of_them_end_with_the_node() {
    let mut server = TestServer::start(Backend::Memory).await;
    let mut feeds = Vec::new();
    for last in 2..6 {
        feeds.extend(fill_part(&server, last, "/admin/events", 8).await);
    }
    let response = get(&server, "/admin/events", &[]).await;
    refusal(response, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    let status = server.stop("TERM").await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_listed_with_their_origin_and_without_secrets() {
    let server = TestServer::start_with(Backend::Redis, &["--streams-max", "77"]).await;
    let settings = json_of(&server, "/admin/settings").await;
    let find = |key: &str| {
        let rows = settings["settings"].as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(
        find("streams_max"),
        json!({"key": "streams_max", "value": "77", "origin": "flag"})
    );
    assert_eq!(find("heartbeat")["origin"], "default");
    assert_eq!(find("redis_timeout")["origin"], "variable");
    assert!(
        find("redis_url")["value"]
            .as_str()
            .unwrap()
            .contains("redis")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_busiest_channels_are_those_with_the_most_publishes() {
    let server = TestServer::start(Backend::Memory).await;
    let none = json_of(&server, "/admin/channels/busiest").await;
    assert_eq!(none, json!({"channels": []}));
    let _subscriber = server.subscribe("/stream?channel=busy").await;
    for number in 0..10 {
        server.publish("busy", "click", &number.to_string()).await;
    }
    let lines = "{\"event\":\"a\",\"data\":\"1\",\"channel\":\"calm\"}\n".repeat(2);
    let batch = server.http.post(server.at("/events"));
    let batch = batch
        .header("content-type", "application/x-ndjson")
        .body(lines);
    assert_eq!(batch.send().await.unwrap().status(), StatusCode::OK);
    let found = json_of(&server, "/admin/channels/busiest").await;
    let found = found["channels"].as_array().unwrap().clone();
    let names: Vec<_> = found.iter().map(|row| &row["channel"]).collect();
    assert_eq!(names, ["busy", "calm"]);
    assert_eq!(
        (&found[0]["streams"], &found[1]["streams"]),
        (&json!(1), &json!(0))
    );
    assert!(found[0]["events_per_s"].as_f64() > found[1]["events_per_s"].as_f64());
    let one = json_of(&server, "/admin/channels/busiest?limit=1").await;
    assert_eq!(one["channels"].as_array().unwrap().len(), 1);
    let too_many = get(&server, "/admin/channels/busiest?limit=201", &[]).await;
    refusal(too_many, StatusCode::BAD_REQUEST, "invalid_parameter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_what_a_channel_and_an_address_do_without_data() {
    let server = TestServer::start_with(Backend::Memory, &["--history-events", "2"]).await;
    let trace = |subject: &str| server.at(&format!("/admin/trace?{subject}"));
    let open = async |subject: &str| {
        let response = server.http.get(trace(subject)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{subject}");
        Subscriber::new(response)
    };
    let mut of_channel = open("channel=orders").await;
    let mut of_address = open("address=127.0.0.1&for=1m").await;
    let status = feed_event(&mut of_channel, "status", |_| true).await;
    assert_eq!(status["dropped"], 0);
    let streams = feed_event(&mut of_channel, "streams", |_| true).await;
    assert_eq!(streams, json!({"total": 0, "streams": []}));

    for number in 0..4 {
        server
            .publish("orders", "click", &format!("secret {number}"))
            .await;
    }
    server.publish("users", "click", "secret").await;
    let published = feed_event(&mut of_channel, "entry", |_| true).await;
    for (name, value) in [
        ("kind", json!("published")),
        ("channels", json!(["orders"])),
        ("address", json!("127.0.0.1")),
        ("events", json!(1)),
        ("bytes", json!(8)),
    ] {
        assert_eq!(published[name], value, "{published}");
    }
    assert!(!published.to_string().contains("secret"), "{published}");
    let users = |entry: &Value| entry["channels"] == json!(["users"]);
    feed_event(&mut of_address, "entry", users).await;

    let mut late = server
        .subscribe_after("/stream?channel=orders", Some("0-0"))
        .await;
    assert_eq!(late.next_event().await.event, "gap");
    drop(late);
    let request = |entry: &Value| entry["kind"] == "request" && entry["path"] == "/stream";
    let request = feed_event(&mut of_channel, "entry", request).await;
    assert_eq!(
        (&request["right"], &request["result"]),
        (&json!("subscribe"), &json!("ok"))
    );
    feed_event(&mut of_channel, "entry", |entry| entry["kind"] == "gap").await;
    let ended = feed_event(&mut of_channel, "entry", |entry| {
        entry["kind"] == "stream_ended"
    })
    .await;
    assert_eq!(ended["reason"], "client");

    let rejected = get(&server, "/events?channel=orders&limit=x", &[]).await;
    assert_eq!(rejected.status(), StatusCode::BAD_REQUEST);
    let rejected = feed_event(&mut of_channel, "entry", |entry| entry["status"] == 400).await;
    assert_eq!(rejected["result"], "invalid_parameter", "{rejected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_has_one_subject_and_an_end_and_a_node_has_few() {
    let server = TestServer::start(Backend::Memory).await;
    for query in [
        "",
        "for=1m",
        "channel=a&address=127.0.0.1",
        "channel=a&key=b",
        "iss=a",
        "address=localhost",
        "channel=a&for=11m",
        "channel=a&for=0",
    ] {
        let response = get(&server, &format!("/admin/trace?{query}"), &[]).await;
        refusal(response, StatusCode::BAD_REQUEST, "invalid_parameter").await;
    }
    let short = get(&server, "/admin/trace?channel=a&for=1ms", &[]).await;
    let mut short = Subscriber::new(short);
    feed_event(&mut short, "end", |_| true).await;
    within("the end of the trace", short.ended()).await;
    let first = fill_part(&server, 2, "/admin/trace?key=a", 4).await;
    let second = fill_part(&server, 3, "/admin/trace?key=a", 4).await;
    let response = get(&server, "/admin/trace?key=a", &[]).await;
    refusal(response, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_over_redis_lists_the_others_and_another_broker_has_one() {
    let server = TestServer::start(Backend::Memory).await;
    let alone = json_of(&server, "/admin/nodes").await;
    assert_eq!(alone["shared"], false);
    let own = &alone["nodes"][0];
    assert_eq!(
        (&own["is_self"], &own["addresses"]),
        (&json!(true), &json!([server.url]))
    );

    let redis = RedisServer::start().await;
    let nodes = [
        TestServer::node(&redis, &[]).await,
        TestServer::node(&redis, &[]).await,
    ];
    let _stream = nodes[1].subscribe("/stream").await;
    let both = until("both nodes are listed", async || {
        let listed = json_of(&nodes[0], "/admin/nodes").await;
        let other = listed["nodes"][1].clone();
        (other["streams"] == 1).then_some((listed, other))
    });
    let (listed, other) = both.await;
    assert_eq!(
        (&listed["shared"], &listed["nodes"][0]["addresses"]),
        (&json!(true), &json!([nodes[0].url]))
    );
    assert_eq!(
        (&other["is_self"], &other["addresses"]),
        (&json!(false), &json!([nodes[1].url]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn public_files_are_for_everyone_and_are_cached_by_their_tag() {
    let server = TestServer::start(Backend::Memory).await;
    for (path, content_type) in [
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/client.d.ts", "text/plain; charset=utf-8"),
        ("/openapi.yaml", "application/yaml"),
    ] {
        let foreign = [
            ("origin", "https://app.example"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        let response = get(&server, path, &foreign).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        for (name, value) in [
            ("content-type", content_type),
            ("access-control-allow-origin", "*"),
            ("cache-control", "public, max-age=3600"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(headers[name], value, "{path}: {name}");
        }
        let tag = headers["etag"].to_str().unwrap();
        let known = get(&server, path, &[("if-none-match", tag)]).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(known.headers()["etag"], tag);
        let other = get(&server, path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
}

/// Each route of the description exists: no request for one is answered as an unknown route or an
/// unknown method.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_only_routes_that_exist() {
    let server = TestServer::start(Backend::Memory).await;
    let description = server
        .get("/openapi.yaml")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let (_, paths) = description.split_once("\npaths:\n").unwrap();
    let (paths, _) = paths.split_once("\ncomponents:\n").unwrap();
    let (mut path, mut routes) = (String::new(), 0);
    for line in paths.lines() {
        let name = line.trim().trim_end_matches(':');
        match line.len() - line.trim_start().len() {
            2 => {
                path = name
                    .replace("{action}", "click")
                    .replace("{id}", "0")
                    .replace("{name}", "sse");
            }
            4 if ["get", "post", "put", "delete"].contains(&name) => {
                let method = reqwest::Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
                let request = server.http.request(method, server.at(&path));
                let response = request.send().await.unwrap();
                // A missing stream or signing key is a 404 of its own.
                let code = match response.status() {
                    StatusCode::NOT_FOUND => response.json::<Value>().await.unwrap(),
                    StatusCode::METHOD_NOT_ALLOWED => json!("no such method"),
                    _ => Value::Null,
                };
                assert_ne!(code["error"]["code"], "not_found", "{name} {path}");
                assert_ne!(code, "no such method", "{name} {path}");
                routes += 1;
            }
            _ => {}
        }
    }
    assert!(routes >= 19, "{routes} routes");
}
