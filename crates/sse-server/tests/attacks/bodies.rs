//! Bodies of which little arrives, which once held the memory of all publishes.

use crate::{
    attacker_of,
    common::{Backend, TestServer, until},
    victims::Victims,
    waves,
};

const BODIES: u32 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_declare_much_and_send_one_byte_hold_no_memory() {
    let server = TestServer::start(Backend::Memory).await;
    let victims = Victims::start(&server).await;
    let bodies = waves::slow_bodies(&attacker_of(&server), BODIES).await;
    let in_use = async || server.metric("sse_publish_memory_bytes").await;
    until("the first bytes have arrived", async || {
        (in_use().await >= f64::from(BODIES) * 1024.0).then_some(())
    })
    .await;
    // A body of one byte holds one KiB; the victims' own bodies hold as little.
    assert!(in_use().await <= f64::from(BODIES) * 2048.0);
    victims.finish().await;
    drop(bodies);
}
