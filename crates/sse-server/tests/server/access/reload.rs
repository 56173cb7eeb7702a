//! SIGHUP: limits, certificates and rules change together or not at all. Operators may have an address
//! of their own.

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::deployment::{Deployment, key};
use crate::common::{free_port, https::write_pair, until};

async fn logged(deployment: &Deployment, text: &str) {
    until(text, async || {
        deployment.server.log().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_limits_and_certificates_or_nothing() {
    let deployment = Deployment::start_with_tls(&[]).await;
    let path = "/event/click?channel=orders.1";
    let publish = async || deployment.send_as("publisher", Method::POST, path).await;
    assert_eq!(publish().await.status(), StatusCode::OK);
    // The limit of the file is valid, and the key of the certificate is not.
    let (_, certificate) = deployment.tls();
    let directory = certificate.parent().unwrap();
    let file = directory.join("first.key");
    let good = fs::read(&file).unwrap();
    fs::write(&file, "no key").unwrap();
    let limited = "limit_events = \"1/h\"\nhistory_age = \"1h\"\n[access]";
    deployment.reconfigure("[access]", limited);
    logged(&deployment, "SIGHUP changed nothing: ").await;
    for _ in 0..2 {
        assert_eq!(publish().await.status(), StatusCode::OK);
    }
    fs::write(&file, good).unwrap();
    write_pair(directory, "first", &["localhost"]);
    deployment.server.signal("HUP");
    logged(
        &deployment,
        "these settings have changed, and need a restart: history_age",
    )
    .await;
    assert!(deployment.server.log().contains("limit_events"));
    assert_eq!(publish().await.status(), StatusCode::OK);
    let limited: Value = publish().await.json().await.unwrap();
    assert_eq!(limited["error"]["code"], "rate_limited", "{limited}");
    // The client trusts only the new certificate.
    deployment.http_2().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_have_an_address_of_their_own() {
    let own = format!("127.0.0.1:{}", free_port());
    let deployment = Deployment::start_with_tls(&["--admin-bind", &own]).await;
    let status = async |url: String, name: &str| {
        let request = deployment.server.http.get(url).bearer_auth(key(name));
        request.send().await.unwrap().status()
    };
    let elsewhere = deployment.server.at("/admin/streams");
    assert_eq!(status(elsewhere, "observer").await, StatusCode::NOT_FOUND);
    let here = || format!("http://{own}/admin/streams");
    assert_eq!(status(here(), "observer").await, StatusCode::OK);
    // The address is no credential.
    assert_eq!(status(here(), "reader").await, StatusCode::FORBIDDEN);
    assert_eq!(status(here(), "unknown").await, StatusCode::UNAUTHORIZED);
    // The dashboard is there too.
    let script = deployment.server.at("/dashboard.js");
    assert_eq!(status(script, "admin").await, StatusCode::NOT_FOUND);
    let script = format!("http://{own}/dashboard.js");
    assert_eq!(status(script, "admin").await, StatusCode::OK);
    let history = "/events?channel=orders.1";
    for url in [
        deployment.server.at(history),
        format!("http://{own}{history}"),
    ] {
        assert_eq!(status(url, "reader").await, StatusCode::OK);
    }
}
