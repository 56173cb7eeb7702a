//! Open streams end when their credential is revoked, expires, or loses its rights, and operators
//! can list and close them.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::deployment::{Deployment, key};
use crate::common::{Backend, RawConnection, RedisServer, Subscriber, until};

async fn subscribe(deployment: &Deployment, name: &str, path: &str) -> Subscriber {
    let response = deployment.send_as(name, Method::GET, path).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut subscriber = Subscriber::new(response);
    let opening = subscriber.next_block().await;
    assert!(opening.starts_with("retry: "), "{opening}");
    subscriber
}

async fn streams(deployment: &Deployment) -> Vec<Value> {
    let response = deployment
        .send_as("observer", Method::GET, "/admin/streams")
        .await;
    let list: Value = response.json().await.unwrap();
    list["streams"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_loses_its_streams_on_every_node_and_after_a_restart() {
    let redis = RedisServer::start().await;
    let (mut one, other) = (
        Deployment::node(&redis).await,
        Deployment::node(&redis).await,
    );
    let mut here = subscribe(&one, "reader", "/stream?channel=orders.1").await;
    let mut there = subscribe(&other, "reader", "/stream?channel=orders.1").await;
    let mut kept = subscribe(&other, "everything", "/stream?channel=orders.1").await;
    one.revoke(json!({"key": "reader"})).await;
    here.ended().await;
    there.ended().await;
    let history = "/events?channel=orders.1";
    assert_eq!(
        one.send_as("reader", Method::GET, history).await.status(),
        401
    );
    assert_eq!(
        other.send_as("reader", Method::GET, history).await.status(),
        401
    );
    one.server.kill_and_restart().await;
    until("credentials are accepted", async || {
        one.is_accepted("observer").await.then_some(())
    })
    .await;
    assert_eq!(
        one.send_as("reader", Method::GET, history).await.status(),
        401
    );
    one.send_as("publisher", Method::POST, "/event/click?channel=orders.1")
        .await;
    assert_eq!(kept.next_event().await.event, "click");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_survives_a_crash_of_the_embedded_log() {
    let mut deployment = Deployment::start(Backend::Embedded).await;
    let ticket = deployment
        .ticket("everything", json!({"subscribe": ["orders.*"]}))
        .await;
    let token = ticket["token"].as_str().unwrap().to_owned();
    let path = format!("/events?channel=orders.1&access_token={token}");
    let get = async |deployment: &Deployment| {
        let response = deployment.server.get(&path).await.unwrap();
        response.status()
    };
    assert_eq!(get(&deployment).await, StatusCode::OK);
    deployment
        .revoke(json!({"iss": ticket["iss"], "jti": ticket["jti"]}))
        .await;
    assert_eq!(get(&deployment).await, StatusCode::UNAUTHORIZED);
    deployment.server.kill_and_restart().await;
    until("credentials are accepted", async || {
        deployment.is_accepted("observer").await.then_some(())
    })
    .await;
    assert_eq!(get(&deployment).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_list_and_close_streams() {
    let deployment = Deployment::start(Backend::Memory).await;
    let mut first = subscribe(&deployment, "reader", "/stream?channel=orders.1").await;
    let mut second = subscribe(&deployment, "everything", "/stream?channel=orders.2").await;
    let list = until("both are listed", async || {
        let list = streams(&deployment).await;
        (list.len() == 2).then_some(list)
    })
    .await;
    let of_reader = list
        .iter()
        .find(|stream| stream["principal"]["key"] == "reader")
        .unwrap();
    assert_eq!(of_reader["channels"], json!(["orders.1"]));
    assert_eq!(of_reader["address"], "127.0.0.1");
    assert!(of_reader["bytes"].as_u64().unwrap() > 0 && of_reader["since"].is_string());
    let path = format!("/admin/streams/{}", of_reader["id"].as_str().unwrap());
    assert_eq!(
        deployment
            .send_as("observer", Method::DELETE, &path)
            .await
            .status(),
        403
    );
    assert_eq!(
        deployment
            .send_as("admin", Method::DELETE, &path)
            .await
            .status(),
        200
    );
    first.ended().await;
    until("it is gone", async || {
        (streams(&deployment).await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(
        deployment
            .send_as("admin", Method::DELETE, &path)
            .await
            .status(),
        404
    );
    let path = "/admin/streams?key=everything";
    assert_eq!(
        deployment
            .send_as("admin", Method::DELETE, path)
            .await
            .status(),
        200
    );
    second.ended().await;
}

/// Sends a signal to Redis.
fn signal_redis(redis: &RedisServer, signal: &str) {
    let pid = redis.pid().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_start_is_not_known_yet_is_listed_and_can_be_closed() {
    let redis = RedisServer::start().await;
    let deployment = Deployment::node(&redis).await;
    signal_redis(&redis, "-STOP");
    let path = "/stream?channel=orders.1&from=oldest";
    let mut stream = subscribe(&deployment, "reader", path).await;
    let listed = streams(&deployment).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["channels"], json!(["orders.1"]));
    let path = "/admin/streams?key=reader";
    let closed = deployment.send_as("admin", Method::DELETE, path).await;
    let closed: Value = closed.json().await.unwrap();
    assert_eq!(closed, json!({"closed": 1}));
    stream.ended().await;
    signal_redis(&redis, "-CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_the_streams_that_have_lost_their_right() {
    let deployment = Deployment::start(Backend::Memory).await;
    let mut reader = subscribe(&deployment, "reader", "/stream?channel=orders.1").await;
    let mut everything = subscribe(&deployment, "everything", "/stream?channel=orders.1").await;
    // A file that is wrong changes nothing, and neither does one without rules.
    deployment.reconfigure("[access]", "[accesss]");
    until("the error is logged", async || {
        deployment.server.log().contains("accesss").then_some(())
    })
    .await;
    let file = deployment.config();
    deployment.empty_config();
    until("the error is logged", async || {
        deployment
            .server
            .log()
            .contains("no access rules any more")
            .then_some(())
    })
    .await;
    deployment.restore_config(&file);
    deployment.reconfigure("[accesss]", "[access]");
    deployment.reconfigure("subscribe = [\"orders.*\"]", "subscribe = [\"other.*\"]");
    reader.ended().await;
    let path = "/stream?channel=orders.1";
    assert_eq!(
        deployment
            .send_as("reader", Method::GET, path)
            .await
            .status(),
        403
    );
    let path = "/event/click?channel=orders.1";
    assert_eq!(
        deployment
            .send_as("publisher", Method::POST, path)
            .await
            .status(),
        200
    );
    assert_eq!(everything.next_event().await.event, "click");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_whose_key_is_revoked_while_its_body_arrives_stores_nothing() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let [lines, several] = [
        r#"{"event":"a","data":1}"#,
        r#"{"event":"a","data":1,"channel":"orders.2"}"#,
    ];
    let requests = [
        ("POST /event/a?channel=orders.1", "text/plain", "text"),
        (
            "POST /events?channel=orders.1",
            "application/x-ndjson",
            lines,
        ),
        (
            "POST /events?channel=orders.1",
            "application/x-ndjson",
            several,
        ),
        (
            "POST /channels/orders.1/close",
            "application/json",
            r#"{"reason":"done"}"#,
        ),
        ("PUT /channels/orders.1", "application/json", "{}"),
        (
            "POST /tokens",
            "application/json",
            r#"{"subscribe":["orders.1"]}"#,
        ),
        (
            "POST /admin/revocations",
            "application/json",
            r#"{"key":"reader"}"#,
        ),
    ];
    // A body has more time if it is longer.
    let space = "\n".repeat(30_000);
    let mut sending = Vec::new();
    for (target, content_type, body) in requests {
        let head = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            key("everything"),
            space.len() + body.len()
        );
        let mut connection = RawConnection::send(server, &head).await;
        // The server has accepted the credential, and waits for the body.
        connection.receive_until_count("100 Continue", 1).await;
        connection.send_more(&space).await;
        sending.push((connection, body));
    }
    deployment.revoke(json!({"key": "everything"})).await;
    for (mut connection, body) in sending {
        connection.send_more(body).await;
        connection.receive_until_count("HTTP/1.1 401", 1).await;
        connection.receive_until_count("revoked", 1).await;
    }
    for channel in ["orders.1", "orders.2"] {
        let path = format!("/channels/{channel}");
        let response = deployment.send_as("reader", Method::GET, &path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{channel}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_by_text_revokes_or_is_rejected_and_never_ends_an_earlier_one() {
    let deployment = Deployment::start(Backend::Memory).await;
    let revoke = async |body: Value| {
        let server = &deployment.server;
        let request = server.http.post(server.at("/admin/revocations"));
        let request = request.bearer_auth(key("admin")).json(&body);
        request.send().await.unwrap().status()
    };
    for text in [
        format!("Bearer {}", key("reader")),
        String::new(),
        "reader".into(),
    ] {
        assert_eq!(
            revoke(json!({"token": text})).await,
            StatusCode::BAD_REQUEST
        );
    }
    assert!(deployment.is_accepted("observer").await);
    // As a file or a clipboard has it.
    let text = format!(" {}\n", key("observer"));
    assert_eq!(revoke(json!({"token": text})).await, StatusCode::OK);
    assert!(!deployment.is_accepted("observer").await);
    for body in [json!({"key": "reader"}), json!({"token": key("reader")})] {
        assert_eq!(revoke(body.clone()).await, StatusCode::OK);
        let mut shorter = body;
        shorter["ttl"] = "1ms".into();
        assert_eq!(revoke(shorter).await, StatusCode::OK);
    }
    // The next revocation is read after the shorter ones would have ended.
    assert_eq!(revoke(json!({"key": "nothing"})).await, StatusCode::OK);
    let history = "/events?channel=orders.1";
    let response = deployment.send_as("reader", Method::GET, history).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
