//! Messages and events cross in both directions, and nothing hostile does.

use reqwest::Method;
use serde_json::json;

use super::{
    FLAGS, bridged_node, publish_bytes, publisher, reader::FlaskReader, received, until_connected,
    until_metric, warnings,
};
use crate::common::{RedisServer, TestServer, run, server_command, until};

#[tokio::test(flavor = "multi_thread")]
async fn messages_get_ids_and_replay_and_events_reach_the_readers_of_flask() {
    let redis = RedisServer::start().await;
    let server = bridged_node(&redis).await;
    until_metric(&server, "sse_flask_sse_leading", 1).await;
    assert!(warnings(&server).await.is_empty());
    let mut reader = FlaskReader::start(&redis).await;
    let mut stream = server.subscribe("/stream").await;
    let mut flask = publisher(&redis).await;

    let greeting = br#"{"data": {"message": "Hello!"}, "type": "greeting"}"#;
    publish_bytes(&mut flask, greeting).await;
    let event = stream.next_event().await;
    assert_eq!(
        (event.event.as_str(), event.data.as_str()),
        ("greeting", r#"{"message": "Hello!"}"#)
    );
    let greeting_id = event.id;
    let click_id = server.publish("sse", "click", "a\nb \u{e9}").await;
    let message_id = server.publish("sse", "message", "plain").await;

    // Flask's own message is not sent back. Ours have Flask's keys only.
    assert_eq!(reader.next_message().await, greeting);
    for expected in [
        json!({"data": "a\nb \u{e9}", "type": "click", "id": click_id}),
        json!({"data": "plain", "id": message_id}),
    ] {
        assert_eq!(serde_json::Value::from(reader.next_event().await), expected);
    }
    // Each echo has come back and was dropped.
    until("both echoes were dropped", async || {
        (received(&server, "echo").await == 2).then_some(())
    })
    .await;
    let replayed = server
        .subscribe_after("/stream", Some(&greeting_id))
        .await
        .take_data(2)
        .await;
    assert_eq!(replayed, ["a\nb \u{e9}", "plain"]);
    assert_eq!(server.history("sse").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_message_ends_nothing_and_is_counted_by_its_reason() {
    let redis = RedisServer::start().await;
    let server = bridged_node(&redis).await;
    let mut stream = server.subscribe("/stream").await;
    let mut flask = publisher(&redis).await;
    let too_large = format!(r#"{{"data": "{}"}}"#, "x".repeat(10 << 20));
    let hostile: [(&str, &[u8]); 9] = [
        ("not_json", b"hello"),
        ("not_json", b""),
        ("not_an_object", b"[1, 2]"),
        ("unknown_key", br#"{"data": 1, "event": "x"}"#),
        ("no_data", br#"{"type": "x"}"#),
        (
            "invalid_type",
            br#"{"data": 1, "type": "x\nid: evil\ndata: y"}"#,
        ),
        ("reserved_type", br#"{"data": 1, "type": "gap"}"#),
        ("not_utf8", b"{\"data\": \"\xff\xfe\"}"),
        ("too_large", too_large.as_bytes()),
    ];
    for (_, message) in hostile {
        publish_bytes(&mut flask, message).await;
    }
    // A marker that no node would publish, and one that a node could have published.
    for marker in ["not a marker", "0123456789abcdef-7"] {
        let mut command = redis::cmd("PUBLISH");
        command.arg("sse:{sse}:flask:markers").arg(marker);
        let _: u64 = command.query_async(&mut flask).await.unwrap();
    }
    for number in 0..3 {
        publish_bytes(&mut flask, format!(r#"{{"data": {number}}}"#).as_bytes()).await;
    }
    assert_eq!(stream.take_data(3).await, ["0", "1", "2"]);
    assert_eq!(server.history("sse").await.len(), 3);
    for (reason, _) in hostile {
        let expected = if reason == "not_json" { 2 } else { 1 };
        assert_eq!(received(&server, reason).await, expected, "{reason}");
        let log = server.log();
        let lines = log.lines().filter(|line| line.contains(reason));
        assert_eq!(lines.count(), 1, "{reason} in {log}");
    }
    assert!(warnings(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_repeats_an_id_keeps_its_messages() {
    let redis = RedisServer::start().await;
    let server = bridged_node(&redis).await;
    let mut stream = server.subscribe("/stream").await;
    let mut flask = publisher(&redis).await;
    let id = server.publish("sse", "click", "ours").await;
    let message = |id: &str, data: &str, kind: &str| {
        json!({"data": data, "id": id, "type": kind}).to_string()
    };
    for text in [
        // Equal messages, with an id of another form.
        message("7", "equal", "click"),
        message("7", "equal", "click"),
        // The id of our event with other data, and with another type.
        message(&id, "other", "click"),
        message(&id, "ours", "view"),
        // An id that is above all ids.
        message("99999999999999-0", "future", "click"),
        // Our own event once more: an echo.
        message(&id, "ours", "click"),
        // An id that is older than all kept events.
        message("1-1", "old", "click"),
        message("7", "end of test", "click"),
    ] {
        publish_bytes(&mut flask, text.as_bytes()).await;
    }
    let data = stream.take_data(7).await;
    assert_eq!(
        data,
        [
            "ours",
            "equal",
            "equal",
            "other",
            "ours",
            "future",
            "end of test"
        ]
    );
    assert_eq!(received(&server, "old_id").await, 1);
    // A message that repeats the id of one of Flask's events is Flask's, and not an echo.
    let of_flask = server.history("sse").await[1].id.clone();
    publish_bytes(&mut flask, message(&of_flask, "equal", "click").as_bytes()).await;
    assert_eq!(stream.next_event().await.data, "equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_node_or_of_redis_repeats_and_loses_nothing() {
    let mut redis = RedisServer::start().await;
    let mut server = bridged_node(&redis).await;
    let mut flask = publisher(&redis).await;
    let mut reader = FlaskReader::start(&redis).await;
    publish_bytes(&mut flask, br#"{"data": "before"}"#).await;
    reader.next_message().await;
    server.publish("sse", "click", "1").await;
    assert_eq!(reader.next_event().await["data"], "1");

    // The cursor outlives the node: an event of another node meanwhile is sent later, once.
    server.kill();
    let other = TestServer::node(&redis, &[]).await;
    other.publish("sse", "click", "2").await;
    server.restart().await;
    until_connected(&server).await;
    server.publish("sse", "click", "3").await;
    for data in ["2", "3"] {
        assert_eq!(reader.next_event().await["data"], data);
    }

    redis.kill();
    until("health reports the outage", async || {
        (server.get("/health/ready").await.unwrap().status() != 200).then_some(())
    })
    .await;
    redis.restart().await;
    until_metric(&server, "sse_flask_sse_leading", 1).await;
    until_connected(&server).await;
    let mut flask = publisher(&redis).await;
    publish_bytes(&mut flask, br#"{"data": "after"}"#).await;
    until("the message is stored", async || {
        let history = server.history("sse").await;
        history
            .iter()
            .any(|event| event.data == "after")
            .then_some(())
    })
    .await;
    let data: Vec<String> = server
        .history("sse")
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(data, ["before", "1", "2", "3", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_rejected_at_start() {
    let many: Vec<String> = (0..33).map(|number| format!("c{number}")).collect();
    let many = many.join(",");
    let redis = "redis://127.0.0.1:1";
    for (flags, expected) in [
        (&["--memory", FLAGS[0], FLAGS[1]][..], "needs --redis-url"),
        (&["--redis-url", redis, "--flask-sse", "a*"], "a pattern"),
        (&["--redis-url", redis, "--flask-sse", "sse,sse"], "twice"),
        (&["--redis-url", redis, "--flask-sse", &many], "at most 32"),
    ] {
        let output = run(server_command().args(flags)).await;
        assert_eq!(output.code, Some(2), "{flags:?}");
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

async fn change(server: &TestServer, method: Method, path: &str) {
    let request = server.http.request(method, server.at(path));
    let response = request.json(&json!({"reason": "completed"})).send().await;
    assert!(response.unwrap().status().is_success(), "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_channel_refuses_messages_and_a_deleted_one_begins_again() {
    let redis = RedisServer::start().await;
    let server = bridged_node(&redis).await;
    until_metric(&server, "sse_flask_sse_leading", 1).await;
    let mut reader = FlaskReader::start(&redis).await;
    let mut flask = publisher(&redis).await;
    let id = server.publish("sse", "click", "ours").await;
    assert_eq!(reader.next_event().await["data"], "ours");
    change(&server, Method::POST, "/channels/sse/close").await;
    publish_bytes(&mut flask, br#"{"data": "late"}"#).await;
    until("the late message was refused", async || {
        (received(&server, "refused").await == 1).then_some(())
    })
    .await;
    let history = server.history("sse").await;
    let data: Vec<_> = history.iter().map(|event| event.data.as_str()).collect();
    assert!(!data.contains(&"late"), "{data:?}");
    reader.next_message().await;

    change(&server, Method::DELETE, "/channels/sse").await;
    // The event of the deleted channel comes back. It must not be in the channel that follows.
    let echo = json!({"data": "ours", "type": "click", "id": id}).to_string();
    publish_bytes(&mut flask, echo.as_bytes()).await;
    publish_bytes(&mut flask, br#"{"data": "again"}"#).await;
    until("the channel exists again", async || {
        let history = server.history("sse").await;
        (history.first()?.data == "again").then_some(())
    })
    .await;
    assert_eq!(server.history("sse").await.len(), 1);
    assert_eq!(received(&server, "old_id").await, 1);
    // What follows an end and a deletion still reaches Flask.
    for _ in 0..2 {
        reader.next_message().await;
    }
    server.publish("sse", "click", "new").await;
    assert_eq!(reader.next_event().await["data"], "new");
}
