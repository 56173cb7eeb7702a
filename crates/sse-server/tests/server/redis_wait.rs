//! `--redis-wait`: a publish is acknowledged when a replica has it, and a promoted replica lacks
//! nothing that was acknowledged.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::common::{RedisServer, TestServer, logged_cause, refusal, until};

async fn keyed(server: &TestServer, data: &'static str) -> Response {
    let request = server.http.post(server.at("/event/click"));
    let request = request.header("content-type", "text/plain");
    let request = request.header("idempotency-key", "k").body(data);
    request.send().await.unwrap()
}

async fn change(server: &TestServer, method: Method, channel: &str) -> Response {
    let path = format!("/channels/{channel}");
    let request = server.http.request(method, server.at(&path));
    let body = serde_json::json!({});
    request.json(&body).send().await.unwrap()
}

async fn id(response: Response) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = response.json().await.unwrap();
    body["id"].as_str().unwrap().to_owned()
}

fn signal(redis: &RedisServer, signal: &str) {
    let pid = redis.pid().to_string();
    let kill = std::process::Command::new("kill")
        .args([signal, &pid])
        .status();
    assert!(kill.unwrap().success());
}

/// One deployment for all cases: a primary with a replica, and a node.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_is_acknowledged_when_a_replica_has_it() {
    let mut primary = RedisServer::start_replicated(None).await;
    let replica = RedisServer::start_replicated(Some(primary.port())).await;
    let flags = ["--redis-wait", "1", "--redis-timeout", "1s"];
    let server = TestServer::node(&primary, &flags).await;
    until("a publish is acknowledged", async || {
        let response = server.try_publish("sse", "click", "first").await.unwrap();
        response.status().is_success().then_some(())
    })
    .await;
    let mut subscriber = server.subscribe("/stream").await;
    let once = id(keyed(&server, "once").await).await;
    assert_eq!(id(keyed(&server, "once").await).await, once);
    refusal(
        keyed(&server, "other").await,
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
    )
    .await;
    let batch = [r#"{"event":"click","data":"b"}"#; 3].join("\n");
    let response = server.try_publish_batch("sse", batch).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(subscriber.take_data(4).await, ["once", "b", "b", "b"]);
    without_a_replica_the_outcome_is_unknown(&server, &primary, &replica).await;
    a_promoted_replica_has_all_acknowledged_events(&server, &mut primary, &replica).await;
}

async fn without_a_replica_the_outcome_is_unknown(
    server: &TestServer,
    primary: &RedisServer,
    replica: &RedisServer,
) {
    change(server, Method::PUT, "configured").await;
    for channel in ["deleted", "configured"] {
        server.publish(channel, "click", "x").await;
    }
    let deleted = change(server, Method::DELETE, "deleted").await;
    assert_eq!(deleted.status(), StatusCode::OK);
    signal(replica, "-STOP");
    for response in [
        server.try_publish("sse", "click", "unknown").await.unwrap(),
        keyed(server, "once").await,
        // The second deletion and the second PUT change nothing that the replica has confirmed.
        change(server, Method::DELETE, "deleted").await,
        change(server, Method::PUT, "configured").await,
    ] {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let message = refusal(response, status, "outcome_unknown").await;
        let cause = logged_cause(server, &message).await;
        assert!(cause.contains("0 of 1 replicas"), "{cause}");
    }
    assert_eq!(server.history("sse").await.last().unwrap().data, "unknown");
    let unblocked = until("Redis ends a WAIT", async || {
        let (response, ()) = tokio::join!(
            server.try_publish("sse", "click", "unblocked"),
            unblock(primary)
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let message = refusal(response.unwrap(), status, "outcome_unknown").await;
        let cause = logged_cause(server, &message).await;
        cause.contains("UNBLOCKED").then_some(())
    });
    unblocked.await;
    signal(replica, "-CONT");
    until("a publish is acknowledged again", async || {
        let response = server.try_publish("sse", "click", "again").await.unwrap();
        response.status().is_success().then_some(())
    })
    .await;
}

/// Ends the `WAIT` of a client with an error, if there is one within a moment.
async fn unblock(primary: &RedisServer) {
    for _ in 0..100 {
        let list = redis::cmd("CLIENT").arg("LIST").clone();
        let clients: String = primary.command(list).await.unwrap();
        let waiting = clients.lines().find(|client| client.contains("cmd=wait"));
        let waiting = waiting.and_then(|client| client.strip_prefix("id=")?.split(' ').next());
        if let Some(id) = waiting {
            primary.run(&format!("CLIENT UNBLOCK {id} ERROR")).await;
            return;
        }
    }
}

async fn a_promoted_replica_has_all_acknowledged_events(
    server: &TestServer,
    primary: &mut RedisServer,
    replica: &RedisServer,
) {
    let mut acknowledged = Vec::new();
    for number in 0..50 {
        let response = server
            .try_publish("sse", "click", &number.to_string())
            .await;
        acknowledged.push(id(response.unwrap()).await);
    }
    primary.kill();
    replica.run("REPLICAOF NO ONE").await;
    let range = redis::cmd("XRANGE")
        .arg("sse:{sse}")
        .arg("-")
        .arg("+")
        .clone();
    let entries: Vec<(String, Vec<String>)> = replica.command(range).await.unwrap();
    let kept: Vec<&String> = entries.iter().map(|(id, _)| id).collect();
    assert!(acknowledged.iter().all(|id| kept.contains(&id)), "{kept:?}");
}
