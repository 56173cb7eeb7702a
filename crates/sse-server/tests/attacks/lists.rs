//! `GET /channels` and `GET /channels/{name}`: long lists, and lists of all streams.

use crate::{
    attacker::get,
    attacker_of,
    common::{Backend, TestServer, until},
    on_every_broker,
    victims::Victims,
    waves,
};

/// Channels of one page, and what they count as in a search.
const CHANNELS: usize = 1000;
const COST: f64 = 20_000.0;
const LISTS: usize = 100;
const DESCRIPTIONS: usize = 100;
/// Streams of which one page is larger than the buffers of a connection.
const STREAMS: usize = 400;

on_every_broker! {
    async fn lists_of_channels_count_as_searches_and_delay_no_one(backend: Backend) {
        let server = TestServer::start(backend).await;
        let attacker = attacker_of(&server);
        waves::batch_of_channels(&attacker, "listed", CHANNELS).await;
        let victims = Victims::start(&server).await;
        let lists = waves::unread_lists(&attacker, LISTS).await;
        let descriptions = waves::descriptions(&attacker, DESCRIPTIONS).await;
        until("pages count as searches", async || {
            let searched = server.metric("sse_events_searched_total").await;
            (searched >= 4.0 * COST).then_some(())
        })
        .await;
        victims.finish().await;
        drop((lists, descriptions));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_streams_counts_as_memory_until_it_is_read() {
    let server = TestServer::start(Backend::Memory).await;
    let attacker = attacker_of(&server);
    let channels = (0..32).map(|number| format!("channel={number:0>64}"));
    let stream = get(&format!(
        "/stream?{}",
        channels.collect::<Vec<_>>().join("&")
    ));
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(attacker.send(&stream).await);
    }
    until("the streams are open", async || {
        let open = server.metric("sse_subscribers").await;
        (open >= 400.0).then_some(())
    })
    .await;
    let list = get("/admin/streams?limit=1000");
    held.push(attacker.send_without_reading(&list).await);
    until("the page counts", async || {
        let bytes = server.metric("sse_history_memory_bytes").await;
        (bytes > 500_000.0).then_some(())
    })
    .await;
}
