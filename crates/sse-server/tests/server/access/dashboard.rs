//! The dashboard of a server with access rules.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::deployment::{Deployment, digest, key};
use crate::common::{Backend, Subscriber, within};

async fn checked(deployment: &Deployment, token: &str) -> Value {
    let request = deployment
        .server
        .http
        .post(deployment.server.at("/admin/access"));
    let request = request
        .bearer_auth(key("observer"))
        .json(&json!({"token": token}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_may_load_the_page_and_only_observers_the_figures() {
    let deployment = Deployment::start(Backend::Memory).await;
    for path in ["/", "/dashboard.js", "/dashboard.css"] {
        let request = deployment.request(&Method::GET, path);
        let request = request
            .header("accept", "text/html")
            .header("x-forwarded-for", "192.0.2.1");
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::OK,
            "{path}"
        );
    }
    let settings = deployment
        .send_as("observer", Method::GET, "/admin/settings")
        .await;
    let settings: Value = settings.json().await.unwrap();
    let access = settings["access"].as_str().unwrap();
    assert!(access.contains("[[access.key]]"), "{access}");
    assert!(!settings.to_string().contains(&digest("admin")), "{access}");

    let reader = checked(&deployment, &key("reader")).await;
    assert_eq!(
        (&reader["accepted"], &reader["caller"], &reader["observe"]),
        (&json!(true), &json!("key reader"), &json!(false))
    );
    assert!(
        reader["subscribe"].to_string().contains("orders.*"),
        "{reader}"
    );
    let unknown = checked(&deployment, &key("unknown")).await;
    assert_eq!(
        (&unknown["accepted"], &unknown["reason"]),
        (&json!(false), &json!("unknown_key"))
    );
    let ticket = deployment
        .ticket("everything", json!({"subscribe": ["orders.*"]}))
        .await;
    let token = ticket["token"].as_str().unwrap();
    let ticket = checked(&deployment, token).await;
    assert_eq!(ticket["subscribe"], json!(["orders.*"]));
    assert!(ticket["expires"].is_string(), "{ticket}");
    assert_eq!(
        checked(&deployment, &token[..token.len() - 4]).await["accepted"],
        false
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_when_its_caller_loses_the_right() {
    let deployment = Deployment::start(Backend::Memory).await;
    let response = deployment
        .send_as("observer", Method::GET, "/admin/events")
        .await;
    let mut feed = Subscriber::new(response);
    feed.next_block().await;
    deployment.reconfigure("observe = true", "observe = false");
    within("the end of the feed", feed.ended()).await;
    let response = deployment
        .send_as("observer", Method::GET, "/admin/events")
        .await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}
