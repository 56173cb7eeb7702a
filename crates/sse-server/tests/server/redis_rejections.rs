//! The error replies of a real Redis: each has the response of the table in `broker/redis/rejections`
//! and in `docs/operations/redis.md`. `redis_errors` has OOM and READONLY.

use reqwest::StatusCode;

use crate::common::{RedisServer, TestServer, free_port, logged_cause, refusal, until};

/// Publishes until Redis rejects it with `code`, and checks the response. Returns the data.
async fn until_rejected(server: &TestServer, code: &str) -> String {
    until(code, async || {
        let data = uuid::Uuid::new_v4().to_string();
        let response = server.try_publish("sse", "click", &data).await.unwrap();
        if response.status() == StatusCode::OK {
            return None;
        }
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body: serde_json::Value = response.json().await.unwrap();
        // The connection may just have broken.
        if body["error"]["code"] != "broker_unavailable" {
            return None;
        }
        let message = body["error"]["message"].as_str().unwrap();
        let cause = logged_cause(server, message).await;
        cause.contains(code).then_some(data)
    })
    .await
}

async fn until_accepted(server: &TestServer) {
    until("publishing works again", async || {
        let response = server.try_publish("sse", "click", "again").await.unwrap();
        response.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_publish_is_a_503_and_was_not_stored() {
    let redis = RedisServer::start_with(&[
        "--appendonly",
        "no",
        "--save",
        "3600 1",
        "--busy-reply-threshold",
        "1",
    ])
    .await;
    let server = TestServer::node(&redis, &["--redis-timeout", "1s"]).await;
    server.publish("sse", "click", "first").await;
    let mut rejected = Vec::new();

    redis.run("CONFIG SET min-replicas-to-write 1").await;
    rejected.push(until_rejected(&server, "NOREPLICAS").await);
    redis.run("CONFIG SET min-replicas-to-write 0").await;
    until_accepted(&server).await;

    redis.run("ACL SETUSER sse -xadd").await;
    rejected.push(until_rejected(&server, "NOPERM").await);
    // A batch is a transaction, which Redis discards.
    let batch = [r#"{"event":"click","data":"x"}"#; 2].join("\n");
    let response = server.try_publish_batch("sse", batch).await.unwrap();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    refusal(response, status, "broker_unavailable").await;
    redis.run("ACL SETUSER sse +xadd").await;
    until_accepted(&server).await;

    // A snapshot cannot replace a directory.
    std::fs::create_dir(redis.directory().join("dump.rdb")).unwrap();
    redis.run("BGSAVE").await;
    rejected.push(until_rejected(&server, "MISCONF").await);
    redis.run("CONFIG SET stop-writes-on-bgsave-error no").await;
    until_accepted(&server).await;

    let client = redis::Client::open(redis.admin_url()).unwrap();
    let endless = tokio::spawn(async move {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut script = redis::cmd("EVAL");
        script.arg("while true do end").arg(0);
        let _: redis::RedisResult<()> = script.query_async(&mut connection).await;
    });
    rejected.push(until_rejected(&server, "BUSY").await);
    redis.run("SCRIPT KILL").await;
    endless.await.unwrap();
    until_accepted(&server).await;

    let all = server.history("sse").await;
    assert!(
        all.iter().all(|event| !rejected.contains(&event.data)),
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_used_yet_is_a_503_and_the_log_has_its_reply() {
    let quick = ["--redis-timeout", "300ms"];
    // By default the port of the cluster bus is in the range that the system gives to connections.
    let bus_port = free_port().to_string();
    let cluster =
        RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus_port]).await;
    until_rejected(&TestServer::node(&cluster, &quick).await, "CLUSTERDOWN").await;
    let replica = RedisServer::start().await;
    replica.run("CONFIG SET replica-serve-stale-data no").await;
    replica.run("REPLICAOF 127.0.0.1 1").await;
    until_rejected(&TestServer::node(&replica, &quick).await, "MASTERDOWN").await;
    let redis = RedisServer::start().await;
    redis.run("CONFIG SET requirepass other").await;
    let without_account = redis.admin_url();
    let wrong_account = without_account.replace("://", "://sse:wrong@");
    for (url, code) in [(&without_account, "NOAUTH"), (&wrong_account, "Password")] {
        until_rejected(&TestServer::on(&["--redis-url", url], &quick).await, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_reads_its_file_is_a_503() {
    let mut redis = RedisServer::start_with(&[
        "--appendonly",
        "no",
        "--key-load-delay",
        "20000",
        "--loading-process-events-interval-bytes",
        "1024",
    ])
    .await;
    let server = TestServer::node(&redis, &["--redis-timeout", "1s"]).await;
    server.publish("sse", "click", "first").await;
    for key in 0..150 {
        redis.run(&format!("SET {key} {}", "x".repeat(3000))).await;
    }
    redis.run("SAVE").await;
    redis.kill();
    tokio::join!(redis.restart(), until_rejected(&server, "LOADING"));
    until_accepted(&server).await;
}
