//! Tickets: what a page that reads channels gets from its backend.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::deployment::{Deployment, digest, key};
use crate::common::{Backend, RequestBuilder, Subscriber, until};

async fn status(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_reads_its_channels_by_url_and_nothing_else() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let body = json!({"subscribe": ["orders.1", "orders.eu.*"], "ttl": "5m", "sub": "42"});
    let answer = deployment.ticket("everything", body).await;
    let token = answer["token"].as_str().unwrap();
    let stream = |channel: &str| {
        let path = format!("/stream?channel={channel}&access_token={token}");
        server.http.get(server.at(&path))
    };
    let response = stream("orders.1").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut subscriber = Subscriber::new(response);
    let publish = deployment.send_as("publisher", Method::POST, "/event/click?channel=orders.1");
    assert_eq!(publish.await.status(), StatusCode::OK);
    assert_eq!(subscriber.next_event().await.event, "click");
    assert_eq!(
        stream("orders.eu.7").send().await.unwrap().status(),
        StatusCode::OK
    );
    let (found, body) = status(stream("orders.2")).await;
    assert_eq!(found, StatusCode::FORBIDDEN);
    assert!(!body.to_string().contains(token), "{body}");
    // It never publishes, and is a parameter of no other route.
    let publish = format!("/event/click?channel=orders.1&access_token={token}");
    let request = deployment
        .request(&Method::POST, &publish)
        .bearer_auth(key("publisher"));
    let (found, body) = status(request).await;
    assert_eq!(found, StatusCode::BAD_REQUEST);
    assert!(!body.to_string().contains(token), "{body}");
    // The link of a page of history has no token, which a log would keep.
    for _ in 0..3 {
        let path = "/event/click?channel=orders.1";
        deployment.send_as("publisher", Method::POST, path).await;
    }
    let history = format!("/events?channel=orders.1&limit=1&access_token={token}");
    let response = server.get(&history).await.unwrap();
    let link = response.headers()[header::LINK].to_str().unwrap();
    assert!(
        link.contains("limit=1") && !link.contains("access_token"),
        "{link}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_grants_only_what_it_may_do_itself() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let create = |bearer: String, body: Value| {
        let request = server.http.post(server.at("/tokens"));
        status(request.bearer_auth(bearer).json(&body))
    };
    let (found, body) = create(key("reader"), json!({"subscribe": ["orders.1", "secret"]})).await;
    assert_eq!(found, StatusCode::FORBIDDEN);
    assert!(body.to_string().contains("secret"), "{body}");
    let (found, _) = create(key("reader"), json!({"subscribe": ["*"]})).await;
    assert_eq!(found, StatusCode::FORBIDDEN);
    for wrong in [
        json!({"subscribe": []}),
        json!({"subscribe": ["a b"]}),
        json!({"subscribe": ["orders.1"], "ttl": "0s"}),
        json!({"subscribe": ["orders.1"], "ttl": "soon"}),
        json!({"subscribe": ["orders.1"], "publish": ["orders.1"]}),
        json!({}),
    ] {
        let (found, body) = create(key("reader"), wrong.clone()).await;
        assert_eq!(found, StatusCode::BAD_REQUEST, "{wrong} {body}");
    }
    // A ticket creates no ticket.
    let ticket = deployment
        .ticket("reader", json!({"subscribe": ["orders.1"]}))
        .await;
    let ticket = ticket["token"].as_str().unwrap().to_owned();
    let (found, _) = create(ticket, json!({"subscribe": ["orders.1"]})).await;
    assert_eq!(found, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_reads_for_pages_of_the_site_and_never_publishes() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let request = server
        .http
        .post(server.at("/tokens"))
        .bearer_auth(key("everything"));
    let body = json!({"subscribe": ["orders.*"], "cookie": true});
    let response = request.json(&body).send().await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.starts_with("sse=") && cookie.contains("; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let body: Value = response.json().await.unwrap();
    assert!(body["token"].is_null() && body["jti"].is_string(), "{body}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let get = |site: &'static str| {
        let request = server.http.get(server.at("/events?channel=orders.1"));
        status(
            request
                .header(header::COOKIE, &pair)
                .header("sec-fetch-site", site),
        )
    };
    assert_eq!(get("same-origin").await.0, StatusCode::OK);
    assert_eq!(get("cross-site").await.0, StatusCode::UNAUTHORIZED);
    let publish = server.http.post(server.at("/event/click?channel=orders.1"));
    let publish = publish.header(header::COOKIE, &pair);
    assert_eq!(status(publish).await.0, StatusCode::UNAUTHORIZED);
    // A wrong cookie beside a valid header is ignored, and one that is wrong is no worse than none.
    let wrong = |path: &str| {
        let request = server
            .http
            .get(server.at(path))
            .header(header::COOKIE, "sse=wrong");
        request.header("sec-fetch-site", "same-origin")
    };
    let request = wrong("/events?channel=orders.1").bearer_auth(key("reader"));
    assert_eq!(status(request).await.0, StatusCode::OK);
    assert_eq!(
        status(wrong("/events?channel=public.1")).await.0,
        StatusCode::OK
    );
    assert_eq!(
        status(wrong("/events?channel=orders.1")).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_different_credentials_are_rejected_and_the_command_line_makes_tickets() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let made = deployment
        .command()
        .args(["token", "--subscribe", "orders.1", "--ttl", "10m"])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let path = format!("/events?channel=orders.1&access_token={token}");
    let both = |bearer: &str| status(server.http.get(server.at(&path)).bearer_auth(bearer));
    assert_eq!(both(&token).await.0, StatusCode::OK);
    assert_eq!(both(&key("reader")).await.0, StatusCode::BAD_REQUEST);
    let checked = deployment
        .command()
        .args(["token", "check", &token])
        .output()
        .unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("orders.1"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_ends_with_the_key_of_its_creator() {
    let deployment = Deployment::start(Backend::Memory).await;
    let server = &deployment.server;
    let body = json!({"subscribe": ["orders.*"]});
    let token_of = async |creator: &str| {
        let answer = deployment.ticket(creator, body.clone()).await;
        answer["token"].as_str().unwrap().to_owned()
    };
    let (replaced, revoked) = (token_of("reader").await, token_of("everything").await);
    let get = async |token: &str| {
        let path = format!("/events?channel=orders.1&access_token={token}");
        server.get(&path).await.unwrap().status()
    };
    assert_eq!(
        (get(&replaced).await, get(&revoked).await),
        (StatusCode::OK, StatusCode::OK)
    );
    // The name remains, with another key.
    deployment.reconfigure(&digest("reader"), &digest("successor"));
    until("the ticket of the replaced key ends", async || {
        (get(&replaced).await == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(get(&revoked).await, StatusCode::OK);
    deployment.revoke(json!({"token": key("everything")})).await;
    assert_eq!(get(&revoked).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_principal_has_its_own_idempotency_keys() {
    let deployment = Deployment::start(Backend::Memory).await;
    let publish = async |name: &str| {
        let request = deployment.request(&Method::POST, "/event/click?channel=orders.1");
        let request = request
            .header("idempotency-key", "k")
            .bearer_auth(key(name));
        let (found, body) = status(request).await;
        assert_eq!(found, StatusCode::OK, "{body}");
        body["id"].as_str().unwrap().to_owned()
    };
    let first = publish("publisher").await;
    assert_ne!(publish("everything").await, first);
    assert_eq!(publish("publisher").await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_of_a_server_behind_https_is_never_sent_over_http() {
    let flags = ["--public-url", "https://hub.example.org"];
    let deployment = Deployment::start_with_tls(&flags).await;
    let server = &deployment.server;
    let request = server.http.post(server.at("/tokens"));
    let request = request.bearer_auth(key("everything"));
    let request = request.json(&json!({"subscribe": ["orders.*"], "cookie": true}));
    let response = request.send().await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("; Secure; HttpOnly"), "{cookie}");
}
