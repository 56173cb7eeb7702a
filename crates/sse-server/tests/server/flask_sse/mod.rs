//! The bridge to Flask-SSE, with messages that are sent to Redis by hand and a reader that accepts
//! what Flask-SSE accepts. `tests/system/flask_sse.rs` runs a real Flask-SSE.

mod directions;
mod leaders;
mod reader;

use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::common::{RedisServer, TestServer, until};

const FLAGS: [&str; 2] = ["--flask-sse", "sse"];

/// A node with a bridge that receives messages.
async fn bridged_node(redis: &RedisServer) -> TestServer {
    let server = TestServer::node(redis, &FLAGS).await;
    until_connected(&server).await;
    server
}

async fn until_connected(server: &TestServer) {
    until_metric(server, "sse_flask_sse_connected", 1).await;
}

async fn until_metric(server: &TestServer, name: &str, value: u64) {
    until(&format!("{name} is {value}"), async || {
        (count(server, name).await == value).then_some(())
    })
    .await;
}

/// The value of a metric that is a whole number.
async fn count(server: &TestServer, name: &str) -> u64 {
    server.metric(name).await.to_string().parse().unwrap()
}

/// The number of messages with this result, of one node.
async fn received(server: &TestServer, result: &str) -> u64 {
    let name = format!(r#"sse_flask_sse_received_total{{result="{result}"}}"#);
    count(server, &name).await
}

/// The codes of the warnings in the response of `/health/ready`.
async fn warnings(server: &TestServer) -> Vec<String> {
    let ready = server.get("/health/ready").await.unwrap();
    let answer: Value = ready.json().await.unwrap();
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let code = |warning: &Value| warning["code"].as_str().unwrap().to_owned();
    warnings.iter().map(code).collect()
}

/// A connection that publishes by hand.
async fn publisher(redis: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Publishes bytes in the channel of Flask-SSE.
async fn publish_bytes(connection: &mut MultiplexedConnection, message: &[u8]) {
    let mut command = redis::cmd("PUBLISH");
    command.arg("sse").arg(message);
    let _: u64 = command.query_async(connection).await.unwrap();
}
