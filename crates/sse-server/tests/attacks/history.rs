//! `GET /events`: responses that are not read, and searches that find nothing.

use crate::{
    attacker_of,
    common::{Backend, TestServer, until},
    on_every_broker,
    victims::Victims,
    waves,
};

const MIB: f64 = 1_048_576.0;
/// More responses of 4 MiB than fit into the memory of all.
const RESPONSES: usize = 40;
/// Events that each search goes through.
const EVENTS: usize = 10_000;
const SEARCHES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_are_not_read_leave_memory_for_others() {
    let server = TestServer::start(Backend::Memory).await;
    for _ in 0..4 {
        server
            .publish("big", "x", &"x".repeat((1 << 20) - 100))
            .await;
    }
    let victims = Victims::start(&server).await;
    let unread = waves::unread_history(&attacker_of(&server), "big", RESPONSES).await;
    let in_use = async || server.metric("sse_history_memory_bytes").await;
    until("the attacker uses its part", async || {
        (in_use().await >= 8.0 * MIB).then_some(())
    })
    .await;
    assert!(in_use().await <= 20.0 * MIB, "{}", in_use().await);
    victims.finish().await;
    drop(unread);
}

on_every_broker! {
    async fn searches_that_find_nothing_wait_for_one_another(backend: Backend) {
        let server = TestServer::start(backend).await;
        for start in (0..EVENTS).step_by(5000) {
            server.publish_numbers("big", start..start + 5000).await;
        }
        let victims = Victims::start(&server).await;
        let searches = waves::fruitless_searches(&attacker_of(&server), "big", SEARCHES).await;
        victims.finish().await;
        drop(searches);
    }
}
