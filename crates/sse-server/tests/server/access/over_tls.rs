//! Open streams end over every transport: without TLS, with TLS, and over HTTP/2.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::deployment::{Deployment, key};
use crate::common::{
    Subscriber,
    http2::{Http2Client, Http2Stream},
    until, within,
};

const PATH: &str = "/stream?channel=orders.1";

/// One stream per transport.
struct Streams {
    plain: Subscriber,
    tls: Subscriber,
    http_2: Http2Stream,
}

impl Streams {
    async fn open(deployment: &Deployment, client: &Http2Client, credential: &str) -> Self {
        let request = deployment.request(&Method::GET, PATH);
        let response = request.bearer_auth(credential).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let request = http::Request::get(format!("https://localhost{PATH}"));
        let request = request.header("authorization", format!("Bearer {credential}"));
        let over_http_2 = client.send(request, b"").await;
        assert_eq!(over_http_2.status(), StatusCode::OK);
        Self {
            plain: Subscriber::new(response),
            tls: deployment.subscribe_over_tls(credential, PATH).await,
            http_2: Http2Stream::new(over_http_2),
        }
    }

    /// Waits for the end of all streams, each of which ends between two blocks.
    async fn ended(&mut self) {
        within("the ends", async {
            self.plain.ended().await;
            self.tls.ended().await;
            self.http_2.ended().await;
        })
        .await;
        // A heartbeat may follow the last block.
        let blocks = self.http_2.text.trim_end_matches(":\n");
        assert!(blocks.ends_with("\n\n"), "{}", self.http_2.text);
    }
}

/// Waits until this many streams were closed for the reason.
async fn closed(deployment: &Deployment, reason: &str, count: usize) {
    let line = format!("sse_streams_closed_total{{reason=\"{reason}\"}} {count}\n");
    until(&line, async || {
        let metrics = deployment.send_as("observer", Method::GET, "/metrics");
        let text = metrics.await.text().await.unwrap();
        text.contains(&line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_ticket_expires() {
    let deployment = Deployment::start_with_tls(&[]).await;
    let client = deployment.http_2().await;
    // The ticket is of the shortest life. The leeway of 30 s is waited for.
    let ticket = json!({"subscribe": ["orders.*"], "ttl": "1s"});
    let ticket = deployment.ticket("everything", ticket).await;
    let token = ticket["token"].as_str().unwrap();
    let mut streams = Streams::open(&deployment, &client, token).await;
    streams.ended().await;
    closed(&deployment, "expired", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_key_is_revoked_and_in_a_drain() {
    let mut deployment = Deployment::start_with_tls(&["--drain", "1s"]).await;
    let client = deployment.http_2().await;
    let mut revoked = Streams::open(&deployment, &client, &key("reader")).await;
    let mut kept = Streams::open(&deployment, &client, &key("everything")).await;
    deployment.revoke(json!({"key": "reader"})).await;
    revoked.ended().await;
    closed(&deployment, "right_lost", 3).await;
    let publish = "/event/click?channel=orders.1";
    let published = deployment.send_as("publisher", Method::POST, publish).await;
    assert_eq!(published.status(), StatusCode::OK);
    kept.http_2.read_until("event: click\n").await;
    let drained = tokio::join!(deployment.server.stop("TERM"), kept.ended());
    assert!(drained.0.success());
}
