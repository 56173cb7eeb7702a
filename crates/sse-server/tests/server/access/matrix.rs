//! The table of `docs/security.md`: what each caller gets from each route, over both versions of
//! HTTP.

use std::fs;

use reqwest::{Method, StatusCode, header};
use serde_json::json;

use super::deployment::{Deployment, body_of, key};
use crate::common::{Backend, http2::Http2Client};

/// The page with the table.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
const BEGIN: &str = "<!-- matrix -->";
const END: &str = "<!-- end of matrix -->";

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<String> {
    let cells = line.trim().trim_matches('|').split('|');
    cells
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_what_the_table_of_the_docs_lists() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (_, rest) = page.split_once(BEGIN).expect("the table");
    let (table, _) = rest.split_once(END).expect("the end of the table");
    let mut lines = table.lines().filter(|line| line.starts_with('|'));
    let callers = cells(lines.next().unwrap());
    let deployment = Deployment::start_with_tls(&[]).await;
    let over_http_2 = deployment.http_2().await;
    let ticket = deployment
        .ticket("everything", json!({"subscribe": ["orders.*"]}))
        .await;
    let ticket = ticket["token"].as_str().unwrap().to_owned();
    let mut failures = Vec::new();
    let mut checked = 0;
    for line in lines.skip(1) {
        let row = cells(line);
        let (method, path) = row[0].split_once(' ').unwrap();
        for (caller, expected) in callers.iter().zip(&row).skip(1) {
            let method: Method = method.parse().unwrap();
            let credential = match caller.as_str() {
                "no credential" => None,
                "wrong key" => Some(key("unknown")),
                "ticket" => Some(ticket.clone()),
                name => Some(key(name)),
            };
            let request = deployment.request(&method, path);
            let request = match &credential {
                Some(credential) => request.bearer_auth(credential),
                None => request,
            };
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            if status.as_str() != expected {
                failures.push(format!("{caller}: {}: {status} for {expected}", row[0]));
            }
            let second = send_over_http_2(&over_http_2, &method, path, credential).await;
            let challenge =
                |headers: &header::HeaderMap| headers.get(header::WWW_AUTHENTICATE).cloned();
            if (second.status(), challenge(second.headers())) != (status, challenge(&headers)) {
                let (status, row) = (second.status(), &row[0]);
                failures.push(format!(
                    "{caller}: {row}: {status} over HTTP/2 for {expected}"
                ));
            }
            let challenge = headers.get(header::WWW_AUTHENTICATE);
            assert_eq!(
                challenge.is_some(),
                status == StatusCode::UNAUTHORIZED || is_scope(challenge)
            );
            checked += 1;
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(checked >= 150, "{checked} cells");
}

/// Sends the same request over HTTP/2.
async fn send_over_http_2(
    client: &Http2Client,
    method: &Method,
    path: &str,
    credential: Option<String>,
) -> http::Response<h2::RecvStream> {
    let request = http::Request::builder()
        .method(method.clone())
        .uri(format!("https://localhost{path}"));
    let request = match credential {
        Some(credential) => request.header("authorization", format!("Bearer {credential}")),
        None => request,
    };
    if *method == Method::POST || *method == Method::PUT {
        let request = request.header("content-type", "application/json");
        client.send(request, body_of(path).as_bytes()).await
    } else {
        client.send(request, b"").await
    }
}

fn is_scope(challenge: Option<&header::HeaderValue>) -> bool {
    challenge.is_some_and(|value| value == "Bearer error=\"insufficient_scope\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_decided_before_everything_else() {
    let deployment = Deployment::start(Backend::Memory).await;
    // The reader may not read `secret`, whatever else is wrong, and whether it exists or not.
    for path in [
        "/stream?channel=secret",
        "/stream?channel=secret&from=nonsense",
        "/stream?channel=secret&bogus=1",
        "/events?channel=secret&limit=x",
        "/events?channel=orders.1&channel=secret",
    ] {
        let response = deployment.send_as("reader", Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        let body: serde_json::Value = response.json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("secret") && !message.contains("orders.1"),
            "{message}"
        );
    }
    // A body is not read either: this one would be rejected as too large.
    let large = "x".repeat(2 << 20);
    let request = deployment.request(&Method::POST, "/event/click?channel=secret");
    let response = request
        .bearer_auth(key("publisher"))
        .body(large)
        .send()
        .await;
    assert_eq!(response.unwrap().status(), StatusCode::FORBIDDEN);
}
