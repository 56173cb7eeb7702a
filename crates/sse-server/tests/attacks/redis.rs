//! Redis, which all nodes share: thousands of lookups, and entries that no server wrote.

use crate::{
    attacker_of,
    common::{Backend, RedisServer, TestServer, until},
    victims::Victims,
    waves,
};

const STREAMS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_lookups_delay_no_publish_and_leave_no_subscription() {
    let server = TestServer::start(Backend::Redis).await;
    let redis = server.redis.as_ref().unwrap();
    let victims = Victims::start(&server).await;
    let streams = waves::lookups(&attacker_of(&server), 0, STREAMS).await;
    victims.finish().await;
    drop(streams);
    until("the channels are unsubscribed", async || {
        let channels = redis.run("PUBSUB CHANNELS *").await;
        let redis::Value::Array(channels) = channels else {
            panic!("{channels:?}")
        };
        (channels.len() <= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_line_ends_in_its_type_forges_nothing() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let victims = Victims::start(&server).await;
    server.publish("attack", "click", "before").await;
    let forged = "x\r\nid: 9-9\r\ndata: forged\r\n\r\nevent: admin";
    let mut command = redis::cmd("XADD");
    command
        .arg("sse:{attack}")
        .arg("*")
        .arg("event")
        .arg(forged);
    let _: String = redis
        .command(command.arg("data").arg("x").clone())
        .await
        .unwrap();
    server.publish("attack", "click", "after").await;
    let mut replay = server.subscribe("/stream?channel=attack&from=oldest").await;
    let events = [
        replay.next_event().await,
        replay.next_event().await,
        replay.next_event().await,
    ];
    assert_eq!(
        events.each_ref().map(|event| event.event.as_str()),
        ["click", "gap", "click"]
    );
    assert_eq!(
        (events[0].data.as_str(), events[2].data.as_str()),
        ("before", "after")
    );
    victims.finish().await;
}
