//! Connections that are opened and then do nothing.

use tokio::io::AsyncReadExt as _;

use crate::{
    attacker::get,
    attacker_of,
    common::{TestServer, until, within},
    victims::Victims,
    waves,
};

/// Open files of the server, 128 of which are not for connections.
const FILES: &str = "ulimit -n 328";
/// More connections than the server may have.
const CONNECTIONS: usize = 300;
/// Streams that one client may have: nine tenths of the connections that are not reserved.
const PART: f64 = 162.0;
/// Connections that are more than the part of a client, and fewer than all.
const MORE_THAN_PART: usize = 180;

#[tokio::test(flavor = "multi_thread")]
async fn second_heads_that_never_end_make_room_for_others() {
    let server = TestServer::under(FILES, &[]).await;
    let victims = Victims::start(&server).await;
    let heads = waves::unfinished_heads(&attacker_of(&server), CONNECTIONS).await;
    victims.finish().await;
    drop(heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_nothing_make_room_for_others() {
    let server = TestServer::under(FILES, &[]).await;
    let victims = Victims::start(&server).await;
    let silent = waves::silent_connections(&attacker_of(&server), CONNECTIONS).await;
    victims.finish().await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_client_leave_connections_for_publishers() {
    let server = TestServer::under(FILES, &[]).await;
    let victims = Victims::start(&server).await;
    let streams = waves::streams(&attacker_of(&server), CONNECTIONS).await;
    victims.finish().await;
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_and_traces_keep_no_connection_of_the_reserve() {
    let server = TestServer::under(FILES, &[]).await;
    let attacker = attacker_of(&server);
    let streams = waves::streams(&attacker, MORE_THAN_PART).await;
    until("the client has its part", async || {
        (server.metric("sse_subscribers").await >= PART).then_some(())
    })
    .await;
    for path in ["/admin/events", "/admin/trace?channel=attack"] {
        let mut feed = attacker.send(&get(path)).await;
        let mut response = String::new();
        let read = within("the response", feed.read_to_string(&mut response));
        read.await.unwrap();
        assert!(response.starts_with("HTTP/1.1 503 "), "{path}: {response}");
    }
    drop(streams);
}
