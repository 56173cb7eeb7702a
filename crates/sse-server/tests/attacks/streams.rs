//! Memory for streams: data that is not read, and the newest events of many channels.

use reqwest::StatusCode;

use crate::{
    attacker_of,
    common::{Backend, TestServer, peak_memory, until},
    victims::Victims,
    waves,
};

const MIB: f64 = 1_048_576.0;

/// The values of a metric with labels, together.
async fn sum(server: &TestServer, name: &str) -> f64 {
    let text = server.get("/metrics").await.unwrap().text().await.unwrap();
    let values = text.lines().filter(|line| line.starts_with(name));
    let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_read_nothing_share_a_bound() {
    let flags = ["--blocked-bytes", "8MiB"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let attacker = attacker_of(&server);
    for _ in 0..4 {
        // Line feeds, each of which takes eight bytes on the wire.
        let publish = attacker.post("/event/x?channel=attack");
        let publish = publish
            .header("content-type", "text/plain")
            .body("\n".repeat(100 << 10));
        assert_eq!(publish.send().await.unwrap().status(), StatusCode::OK);
    }
    let victims = Victims::start(&server).await;
    let streams = waves::unread_streams(&attacker, "attack", 60).await;
    until("streams are blocked", async || {
        (sum(&server, "sse_blocked_bytes").await > 0.0).then_some(())
    })
    .await;
    assert!(sum(&server, "sse_blocked_bytes").await <= 9.0 * MIB);
    victims.finish().await;
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_events_of_many_channels_share_a_bound() {
    let flags = ["--tails-bytes", "16MiB"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let attacker = attacker_of(&server);
    let streams = waves::lookups(&attacker, 0, 2).await;
    let victims = Victims::start(&server).await;
    for number in 0..64 {
        let channel = format!("a0.{}.{}", number / 32, number % 32);
        server.publish(&channel, "x", &"x".repeat(1000 << 10)).await;
    }
    let in_use = sum(&server, "sse_tails_bytes").await;
    assert!(in_use > 0.0 && in_use <= 17.0 * MIB, "{in_use}");
    victims.finish().await;
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_in_many_channels_read_a_few_events_at_a_time() {
    const CHANNELS: usize = 32;
    let server = TestServer::start(Backend::Embedded).await;
    let attacker = attacker_of(&server);
    for number in 0..CHANNELS {
        let (channel, data) = (format!("large{number}"), "x".repeat(512 << 10));
        server.publish(&channel, "x", &data).await;
    }
    let victims = Victims::start(&server).await;
    let before = peak_memory(&server);
    let streams = waves::streams_from_oldest(&attacker, "large", CHANNELS, 100).await;
    victims.finish().await;
    let added = peak_memory(&server) - before;
    println!("the starts took {} KiB", added >> 10);
    // Pages and blocked streams have 96 MiB together; one event of each channel for each stream
    // would be 1600 MiB.
    assert!(added < 128 << 20, "{} KiB", added >> 10);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_leaves_streams_to_the_others() {
    let server = TestServer::start_with(Backend::Memory, &["--streams-max", "200"]).await;
    let attacker = attacker_of(&server);
    let streams = waves::streams(&attacker, 200).await;
    until("the attacker has its part", async || {
        (sum(&server, "sse_subscribers").await >= 180.0).then_some(())
    })
    .await;
    let mut victim = server.subscribe("/stream").await;
    server.publish("sse", "x", "for all").await;
    assert_eq!(victim.next_event().await.data, "for all");
    drop(streams);
}
