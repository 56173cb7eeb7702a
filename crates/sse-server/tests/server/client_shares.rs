//! One client that takes what it can get of a limit leaves a part for the others.
//!
//! The attacker and the victim have different loopback addresses.

use std::net::IpAddr;

use reqwest::{Client, Response, StatusCode};

use crate::common::{TestServer, refusal, until};

const ATTACKER: [u8; 4] = [127, 0, 0, 2];
const VICTIM: [u8; 4] = [127, 0, 0, 3];

/// A client at an address of its own.
fn client_at(address: [u8; 4]) -> Client {
    let builder = Client::builder().no_proxy();
    let builder = builder.local_address(Some(IpAddr::from(address)));
    builder.build().unwrap()
}

async fn publish(client: &Client, server: &TestServer, channel: &str) -> Response {
    let request = client.post(server.at(&format!("/event/click?channel={channel}")));
    let request = request.header("content-type", "text/plain").body("x");
    request.send().await.unwrap()
}

/// Publishes to new channels until one is rejected. Returns how many were created, and the
/// rejection.
async fn create_channels(client: &Client, server: &TestServer, prefix: &str) -> (usize, Response) {
    for created in 0.. {
        let response = publish(client, server, &format!("{prefix}{created}")).await;
        if response.status() != StatusCode::OK {
            return (created, response);
        }
    }
    unreachable!("the number of channels is limited")
}

crate::on_every_broker! {
    async fn a_client_that_creates_channels_leaves_some_for_others(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", "100"]).await;
        let (attacker, victim) = (client_at(ATTACKER), client_at(VICTIM));
        let (created, response) = create_channels(&attacker, &server, "a").await;
        assert_eq!(created, 75);
        let hour: u64 = 60 * 60;
        let retry = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((23 * hour..=27 * hour + 1).contains(&retry), "{retry} s");
        let message = refusal(response, StatusCode::TOO_MANY_REQUESTS, "too_many_new_channels").await;
        assert!(message.contains("75 channels") && message.contains("--channels-max"), "{message}");
        // What the attacker has created still accepts its events, and a batch is no way around.
        assert_eq!(publish(&attacker, &server, "a0").await.status(), StatusCode::OK);
        let batch = attacker.post(server.at("/events?channel=batch")).header("content-type", "application/x-ndjson");
        let response = batch.body(r#"{"event":"a","data":1,"key":"k"}"#).send().await.unwrap();
        refusal(response, StatusCode::TOO_MANY_REQUESTS, "too_many_new_channels").await;
        let (created, _) = create_channels(&victim, &server, "v").await;
        assert_eq!(created, 19);
        let rejected = server.metric(r#"sse_requests_rejected_total{code="too_many_new_channels"}"#).await;
        assert!((3.0..4.0).contains(&rejected), "{rejected}");
    }

    async fn channels_of_a_client_count_until_they_are_too_old(backend: Backend) {
        let flags = ["--channels-max", "8", "--history-age", "400ms"];
        let server = TestServer::start_with(backend, &flags).await;
        let client = client_at(ATTACKER);
        for round in ["a", "b"] {
            create_channels(&client, &server, round).await;
            until("a channel is free again", async || {
                let response = publish(&client, &server, &format!("{round}-next")).await;
                (response.status() == StatusCode::OK).then_some(())
            })
            .await;
        }
    }
}
