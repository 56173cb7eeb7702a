//! One client that takes what it can get of a limit leaves a part for the others.
//!
//! The attacker and the victim have different loopback addresses.

use std::net::IpAddr;

use reqwest::{Response, StatusCode};

use crate::common::{Backend, Client, RedisServer, TestServer, refusal, until};

const ATTACKER: [u8; 4] = [127, 0, 0, 2];
const VICTIM: [u8; 4] = [127, 0, 0, 3];

/// A client at an address of its own.
pub(crate) fn client_at(address: [u8; 4]) -> Client {
    let builder = reqwest::Client::builder().no_proxy();
    let builder = builder.local_address(Some(IpAddr::from(address)));
    builder.build().unwrap().into()
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

/// Publishes `keys` in one batch, and returns the response.
async fn publish_keys(
    client: &Client,
    server: &TestServer,
    channel: &str,
    keys: impl Iterator<Item = String>,
) -> Response {
    let lines = keys.map(|key| format!(r#"{{"event":"a","data":1,"key":"{key}"}}"#));
    let lines: Vec<String> = lines.collect();
    let request = client.post(server.at(&format!("/events?channel={channel}")));
    let request = request.header("content-type", "application/x-ndjson");
    request.body(lines.join("\n")).send().await.unwrap()
}

/// Publishes new keys one by one until one is rejected. Returns how many were stored.
async fn use_up_keys(client: &Client, server: &TestServer, channel: &str, prefix: &str) -> usize {
    for stored in 0.. {
        let key = std::iter::once(format!("{prefix}{stored}"));
        let response = publish_keys(client, server, channel, key).await;
        if response.status() != StatusCode::OK {
            assert!(response.headers().contains_key("retry-after"));
            let code = "too_many_idempotency_keys";
            refusal(response, StatusCode::SERVICE_UNAVAILABLE, code).await;
            return stored;
        }
    }
    unreachable!("the number of keys is limited")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_all_channels_have_a_bound_of_which_one_client_gets_a_part() {
    const KEYS_MAX: usize = 1000;
    let bytes = (KEYS_MAX * 256).to_string();
    let flags = ["--idempotency-bytes", &bytes, "--batch-events-max", "50"];
    for backend in [Backend::Memory, Backend::Embedded] {
        let server = TestServer::start_with(backend, &flags).await;
        let stored = async || server.metric("sse_idempotency_keys").await;
        for client in 2..12 {
            let attacker = client_at([127, 0, 0, client]);
            for batch in 0.. {
                let keys = (0..50).map(|key| format!("{client}-{batch}-{key}"));
                let channel = format!("c{}", batch % 7);
                let response = publish_keys(&attacker, &server, &channel, keys).await;
                if response.status() != StatusCode::OK {
                    let message = response.text().await.unwrap();
                    assert!(message.contains("--idempotency-bytes"), "{message}");
                    break;
                }
            }
            if client == 2 {
                let of_first = stored().await;
                assert!((800.0..=888.0).contains(&of_first), "{of_first}");
                // Keys that are known, and publishes without a key, need no room.
                let again = (0..50).map(|key| format!("2-0-{key}"));
                let again = publish_keys(&attacker, &server, "c0", again).await;
                assert_eq!(again.status(), StatusCode::OK);
                let without = publish(&attacker, &server, "c0").await;
                assert_eq!(without.status(), StatusCode::OK);
                assert!(use_up_keys(&client_at(VICTIM), &server, "c0", "v").await >= 100);
            }
        }
        assert!(stored().await <= 1000.0);
    }
}

/// Nodes of earlier versions store keys in Redis without an owner, and read only the ends of a value.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_earlier_versions_are_known_in_redis() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let (one, other) = (client_at(ATTACKER), client_at(VICTIM));
    let publish = async |client: &Client, data: &str| {
        let request = client.post(server.at("/event/click"));
        let request = request.header("idempotency-key", "order-1");
        let request = request.header("content-type", "text/plain");
        let response = request.body(data.to_owned()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    let first = publish(&one, "x").await;
    assert_eq!(first.0, StatusCode::OK);

    let mut all = ::redis::cmd("HGETALL");
    let stored: Vec<(Vec<u8>, Vec<u8>)> = redis
        .command(all.arg("sse:{sse}:keys").clone())
        .await
        .unwrap();
    let [(key, value)] = &*stored else {
        panic!("{stored:?}")
    };
    let (fields, content) = value.split_at(value.len() - 16);
    let fields = std::str::from_utf8(fields).unwrap();
    let [expires, first_id, last_id, owner, ""] = *fields.split(' ').collect::<Vec<_>>() else {
        panic!("{fields}")
    };
    assert!(
        owner.len() == 16 && u64::from_str_radix(owner, 16).unwrap() > 0,
        "{owner}"
    );
    let mut old = format!("{expires} {first_id} {last_id} ").into_bytes();
    old.extend_from_slice(content);
    let mut set = ::redis::cmd("HSET");
    let set = set.arg("sse:{sse}:keys").arg(key).arg(old).clone();
    let added: u64 = redis.command(set).await.unwrap();
    assert_eq!(added, 0);

    assert_eq!(publish(&other, "x").await, first);
    for client in [&one, &other] {
        assert_eq!(
            publish(client, "y").await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}

crate::on_every_broker! {
    async fn a_client_that_stores_keys_leaves_room_in_the_channel_for_others(backend: Backend) {
        let flags = ["--idempotency-keys", "200", "--idempotency-window", "1h"];
        let server = TestServer::start_with(backend, &flags).await;
        let (attacker, victim) = (client_at(ATTACKER), client_at(VICTIM));
        let keys = || (0..150).map(|key| format!("a{key}"));
        let first = publish_keys(&attacker, &server, "sse", keys()).await.text().await.unwrap();
        assert_eq!(use_up_keys(&attacker, &server, "sse", "b").await, 38);
        let again = publish_keys(&attacker, &server, "sse", keys()).await.text().await.unwrap();
        assert_eq!(first, again);
        assert_eq!(publish(&attacker, &server, "sse").await.status(), StatusCode::OK);
        assert_eq!(use_up_keys(&victim, &server, "sse", "v").await, 12);
        let many = publish_keys(&attacker, &server, "other", (0..189).map(|key| key.to_string())).await;
        let message = refusal(many, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
        assert!(message.contains("188 keys"), "{message}");
    }

    async fn a_key_that_another_client_used_first_blocks_no_publish(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (attacker, victim) = (client_at(ATTACKER), client_at(VICTIM));
        let other_address = client_at([127, 0, 0, 4]);
        let publish = async |client: &Client, data: &str| {
            let request = client.post(server.at("/event/click")).header("idempotency-key", "order-1");
            let request = request.header("content-type", "text/plain").body(data.to_owned());
            let response = request.send().await.unwrap();
            let status = response.status();
            (status, response.text().await.unwrap())
        };
        let (status, of_attacker) = publish(&attacker, "taken").await;
        assert_eq!(status, StatusCode::OK);
        let (status, first) = publish(&victim, "paid").await;
        assert_eq!(status, StatusCode::OK, "{first}");
        assert_ne!(first, of_attacker);
        assert_eq!(publish(&victim, "paid").await, (StatusCode::OK, first));
        assert_eq!(publish(&victim, "other").await.0, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(publish(&attacker, "other").await.0, StatusCode::UNPROCESSABLE_ENTITY);
        // A publisher may repeat its request from another address.
        assert_eq!(publish(&other_address, "taken").await, (StatusCode::OK, of_attacker));
    }

    async fn appends_at_the_same_time_cannot_exceed_the_part_of_their_client(backend: Backend) {
        let flags = ["--idempotency-keys", "200", "--idempotency-window", "1h"];
        let server = std::sync::Arc::new(TestServer::start_with(backend, &flags).await);
        let attacker = client_at(ATTACKER);
        let batches = (0..16).map(|batch| {
            let (server, attacker) = (server.clone(), attacker.clone());
            tokio::spawn(async move {
                let keys = (0..40).map(|key| format!("{batch}-{key}"));
                publish_keys(&attacker, &server, "sse", keys).await.status()
            })
        });
        let mut stored = 0;
        for batch in batches.collect::<Vec<_>>() {
            stored += usize::from(batch.await.unwrap() == StatusCode::OK);
        }
        // Over Redis a request may overtake another one that was counted before it.
        let (stored_max, left_min) = if backend == Backend::Redis { (5, 0) } else { (4, 40) };
        assert!(stored <= stored_max, "{stored} batches of 40");
        assert!(use_up_keys(&client_at(VICTIM), &server, "sse", "v").await >= left_min);
    }

    async fn a_client_that_creates_channels_leaves_some_for_others(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", "200"]).await;
        let (attacker, victim) = (client_at(ATTACKER), client_at(VICTIM));
        let (created, response) = create_channels(&attacker, &server, "a").await;
        assert_eq!(created, 188);
        let retry: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3600).contains(&retry), "{retry} s");
        let message = refusal(response, StatusCode::TOO_MANY_REQUESTS, "too_many_new_channels").await;
        assert!(message.contains("188 channels") && message.contains("--channels-max"), "{message}");
        // What the attacker has created still accepts its events, and a batch is no way around.
        assert_eq!(publish(&attacker, &server, "a0").await.status(), StatusCode::OK);
        let batch = attacker.post(server.at("/events?channel=batch")).header("content-type", "application/x-ndjson");
        let response = batch.body(r#"{"event":"a","data":1,"key":"k"}"#).send().await.unwrap();
        refusal(response, StatusCode::TOO_MANY_REQUESTS, "too_many_new_channels").await;
        let (created, _) = create_channels(&victim, &server, "v").await;
        assert_eq!(created, 12);
        let rejected = server.metric(r#"sse_requests_rejected_total{code="too_many_new_channels"}"#).await;
        assert!((2.0..3.0).contains(&rejected), "{rejected}");
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
