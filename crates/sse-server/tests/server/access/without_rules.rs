//! Without access rules `/admin` answers only programs and pages of this machine.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use super::deployment::key;
use crate::common::{Backend, TestServer, until};

#[tokio::test(flavor = "multi_thread")]
async fn only_this_machine_uses_admin() {
    let flags = ["--publish-origin", "https://app.example"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let status = async |headers: &[(&str, &str)]| {
        let request = server.http.get(server.at("/admin/streams"));
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        request.send().await.unwrap().status()
    };
    assert_eq!(status(&[]).await, StatusCode::OK);
    assert_eq!(
        status(&[("sec-fetch-site", "same-origin")]).await,
        StatusCode::OK
    );
    for header in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("cf-connecting-ip", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
        // This page may publish, which is no right to administrate.
        ("origin", "https://app.example"),
        ("referer", "https://app.example/page"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(status(&[header]).await, StatusCode::FORBIDDEN, "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rules_need_a_restart() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("sse.toml");
    std::fs::write(&config, "").unwrap();
    let path = config.display().to_string();
    let server = TestServer::start_with(Backend::Memory, &["--config", &path]).await;
    std::fs::write(&config, "[access.anonymous]\nsubscribe = [\"public.*\"]\n").unwrap();
    server.signal("HUP");
    until("the reload is rejected", async || {
        server
            .log()
            .contains("started without access rules")
            .then_some(())
    })
    .await;
    let request = server.http.request(Method::POST, server.at("/event/click"));
    let response = request.bearer_auth(key("any")).json(&json!(1)).send().await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}
