//! Connections that are opened and then do nothing.

use crate::{attacker_of, common::TestServer, victims::Victims, waves};

/// Open files of the server, 128 of which are not for connections.
const FILES: &str = "ulimit -n 328";
/// More connections than the server may have.
const CONNECTIONS: usize = 300;

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
