//! Idempotency keys, which the log must remember.

use reqwest::StatusCode;

use crate::{
    attacker_of,
    common::{Backend, TestServer},
    victims::Victims,
    waves,
};

/// Room for 4096 keys.
const FLAGS: &[&str] = &["--idempotency-bytes", "1MiB", "--batch-events-max", "1000"];
const KEYS_MAX: f64 = 4096.0;
const BATCHES: usize = 8;
const KEYS_PER_BATCH: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_use_all_keys() {
    for backend in [Backend::Memory, Backend::Embedded] {
        let server = TestServer::start_with(backend, FLAGS).await;
        let (attacker, victims) = (attacker_of(&server), Victims::start(&server).await);
        let mut rejected = 0;
        for wave in 0..BATCHES {
            let channel = format!("keys{}", wave % 3);
            let response = waves::keys(&attacker, &channel, wave, KEYS_PER_BATCH).await;
            rejected += usize::from(response.status() == StatusCode::SERVICE_UNAVAILABLE);
        }
        let keys = server.metric("sse_idempotency_keys").await;
        assert!(rejected > 0 && keys < KEYS_MAX, "{rejected} {keys}");
        for channel in ["keys0", "another"] {
            let publish = server
                .http
                .post(server.at(&format!("/event/number?channel={channel}")));
            let publish = publish.header("idempotency-key", "mine");
            let status = publish.send().await.unwrap().status();
            assert_eq!(status, StatusCode::OK, "{channel}");
        }
        victims.finish().await;
    }
}
