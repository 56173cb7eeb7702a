//! Pages of foreign sites that use the browser of somebody who can reach the server.

use reqwest::StatusCode;

use crate::{
    attacker::Attacker,
    attacker_of,
    common::{Backend, TestServer},
};

/// The status of a request with this host.
async fn status(attacker: &Attacker, path: &str, headers: &[(&str, &str)]) -> StatusCode {
    let request = headers
        .iter()
        .fold(attacker.get(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    request.send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_attacker_that_leads_to_this_machine_reads_and_publishes_nothing() {
    let server = TestServer::start(Backend::Memory).await;
    let attacker = attacker_of(&server);
    for path in ["/events", "/stream", "/metrics", "/event/x", "/health/live"] {
        let host = [("host", "evil.example")];
        let found = status(&attacker, path, &host).await;
        assert_eq!(found, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert!(server.history("sse").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_or_an_image_on_a_foreign_page_publishes_nothing() {
    let server = TestServer::start(Backend::Memory).await;
    let attacker = attacker_of(&server);
    for (name, value) in [
        ("referer", "https://evil.example/page"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let found = status(&attacker, "/event/x", &[(name, value)]).await;
        assert_eq!(found, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert!(server.history("sse").await.is_empty());
    // The tutorial's browser and its scripts.
    for headers in [vec![], vec![("sec-fetch-site", "none")]] {
        assert_eq!(
            status(&attacker, "/event/x", &headers).await,
            StatusCode::OK
        );
    }
}
