//! Searches of one client, which read much of the log for few events, delay no other client.

use reqwest::StatusCode;

use crate::{
    client_shares::client_at,
    common::{Client, Subscriber, TestServer, until},
};

/// Publishes events of the type `number` until the log has 20 000.
async fn fill(server: &TestServer) {
    for start in (0..20_000).step_by(5000) {
        server.publish_numbers("sse", start..start + 5000).await;
    }
}

async fn open(client: &Client, server: &TestServer, path: &str) -> Subscriber {
    let response = client.get(server.at(path)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    Subscriber::new(response)
}

crate::on_every_broker! {
    async fn a_client_that_searches_delays_no_other(backend: Backend) {
        let server = std::sync::Arc::new(TestServer::start_with(backend, &[]).await);
        fill(&server).await;
        let attacker = client_at([127, 0, 0, 2]);
        let streams = (0..300).map(|number| {
            let (server, attacker) = (server.clone(), attacker.clone());
            tokio::spawn(async move {
                let path = format!("/stream?last=10000&event=none{number}");
                open(&attacker, &server, &path).await
            })
        });
        let streams: Vec<_> = streams.collect();
        let waiting = async || server.metric("sse_searches_waiting").await;
        until("searches wait", async || (waiting().await >= 10.0).then_some(())).await;
        // A search of another client, one for history, and a stream that searches nothing.
        let victim = client_at([127, 0, 0, 3]);
        for path in ["/stream?last=10&event=none", "/stream", "/stream?last=1"] {
            let mut stream = open(&victim, &server, path).await;
            // A slow log finds the position only after the first block.
            while !stream.next_block().await.contains("id: ") {}
        }
        let history = victim.get(server.at("/events?event=none&limit=10")).send().await.unwrap();
        assert_eq!(history.status(), StatusCode::OK);
        assert!(waiting().await >= 1.0, "the attack is still under way");
        for stream in streams {
            stream.abort();
        }
        assert!(server.metric("sse_events_searched_total").await >= 20_000.0);
    }
}
