//! `GET /channels` and `GET /channels/{name}`: long lists, and lists of all streams.

use crate::{
    attacker_of,
    common::{TestServer, until},
    on_every_broker,
    victims::Victims,
    waves,
};

/// Channels of one page, and what they count as in a search.
const CHANNELS: usize = 1000;
const COST: f64 = 20_000.0;
const LISTS: usize = 100;
const DESCRIPTIONS: usize = 100;

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
