//! `--audit-log`: who did what, and with which result.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::deployment::{Deployment, key};
use crate::common::until;

/// The lines of the log, as soon as there are `count` of them.
async fn lines(path: &str, count: usize) -> Vec<Value> {
    until("the lines", async || {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_and_rejections_are_recorded_with_their_caller() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.log").display().to_string();
    let mut deployment = Deployment::start_with_tls(&["--audit-log", &path]).await;
    // The harness has asked for the metrics, until credentials were accepted.
    let before = lines(&path, 1).await.len();
    let client = deployment.http_2().await;
    let ticket = deployment
        .ticket(
            "everything",
            json!({"subscribe": ["orders.*"], "sub": "42"}),
        )
        .await;
    let token = ticket["token"].as_str().unwrap();
    for (name, method, path) in [
        ("publisher", Method::POST, "/event/paid?channel=orders.1"),
        ("reader", Method::POST, "/event/paid?channel=orders.1"),
        ("admin", Method::DELETE, "/admin/streams?key=nothing"),
        ("observer", Method::GET, "/health/ready"),
    ] {
        deployment.send_as(name, method, path).await;
    }
    let stream = format!("/stream?channel=orders.1&channel=orders.2&access_token={token}");
    drop(client.subscribe(&stream).await);
    for _ in 0..5 {
        let request = deployment.request(&Method::GET, "/events?channel=orders.1");
        request.bearer_auth(key("unknown")).send().await.unwrap();
    }
    deployment.revoke(json!({"key": "nothing"})).await;
    assert!(deployment.server.stop("TERM").await.success());
    let lines = lines(&path, before + 8).await;
    let line = |wanted: &[(&str, Value)]| -> &Value {
        let is_wanted = |line: &&Value| wanted.iter().all(|(name, value)| line[*name] == *value);
        lines[before..]
            .iter()
            .find(is_wanted)
            .unwrap_or_else(|| panic!("{wanted:?}: {lines:#?}"))
    };
    let of_key = |name: &str| ("identity", json!({"kind": "key", "key": name}));
    let published = line(&[of_key("publisher"), ("result", json!("ok"))]);
    assert_eq!(published["action"], "publish");
    assert_eq!(published["channels"], json!(["orders.1"]));
    assert_eq!(
        (&published["address"], &published["status"]),
        (&json!("127.0.0.1"), &json!(200))
    );
    let denied = line(&[of_key("reader")]);
    assert_eq!(
        (&denied["result"], &denied["action"]),
        (&json!("insufficient_scope"), &json!("publish"))
    );
    let created = line(&[("action", json!("create_ticket"))]);
    assert!(
        created["target"].as_str().unwrap().contains("42"),
        "{created}"
    );
    let closed = line(&[of_key("admin"), ("target", json!("key=nothing"))]);
    assert_eq!(closed["path"], "/admin/streams");
    line(&[("target", json!(r#"{"key":"nothing"}"#))]);
    let streamed = line(&[("path", json!("/stream"))]);
    assert_eq!(streamed["identity"]["sub"], "42");
    assert_eq!(streamed["channels"], json!(["orders.1", "orders.2"]));
    let unknown = lines.iter().filter(|line| line["path"] == "/events");
    let counts = unknown.map(|line| {
        assert_eq!(
            (&line["identity"], &line["action"]),
            (&Value::Null, &json!("authenticate"))
        );
        line["count"].as_u64().unwrap()
    });
    assert_eq!(counts.sum::<u64>(), 5);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(token) && !text.contains("health"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_and_a_list_are_recorded_as_what_they_are() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("audit.log").display().to_string();
    let mut deployment = Deployment::start_with_tls(&["--audit-log", &path]).await;
    let before = lines(&path, 1).await.len();
    for (name, method, path) in [
        ("everything", Method::POST, "/event/paid?channel=secret"),
        ("manager", Method::POST, "/channels/orders.1/close"),
        ("manager", Method::GET, "/channels"),
    ] {
        let response = deployment.send_as(name, method, path).await;
        assert!(response.status().is_success());
    }
    assert!(deployment.server.stop("TERM").await.success());
    let lines = lines(&path, before + 3).await;
    let of_path = |path: &str| {
        let line = lines.iter().find(|line| line["path"] == path);
        line.map(|line| (line["action"].clone(), line["channels"].clone()))
    };
    assert_eq!(
        of_path("/channels/orders.1/close"),
        Some((json!("manage"), json!(["orders.1"])))
    );
    // Not a channel that the list examined, and that its caller may not see.
    assert_eq!(of_path("/channels"), Some((json!("subscribe"), json!([]))));
}
