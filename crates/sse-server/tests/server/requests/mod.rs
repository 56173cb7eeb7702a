//! Requests of publishers: every valid form is stored as it was sent, every invalid one is rejected
//! with a helpful message, and no request makes the server fail.

mod bodies;
mod caches;
mod cors;
mod data;
mod hostile;
mod hosts;
mod methods;
mod names;
mod origins;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{RequestBuilder, TestServer, within};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";
const ONE_LINE: &str = r#"{"event":"click","data":"x"}"#;
const ROUTES: [(&str, &str); 8] = [
    ("/event/click", "GET, POST"),
    ("/events", "GET, POST"),
    ("/stream", "GET"),
    ("/health/live", "GET, HEAD, OPTIONS"),
    ("/health/ready", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD"),
    ("/admin/stats", "GET"),
    ("/dashboard.js", "GET, HEAD"),
];

/// Checks that a response is an error in the documented form; returns the error's message.
async fn refusal(response: Response, status: u16, code: &str) -> String {
    let found = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    let text = response.text().await.expect("text");
    let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
    checked(found, content_type.unwrap_or_default(), &text, status, code)
}

fn checked(found: u16, content_type: &str, text: &str, status: u16, code: &str) -> String {
    let answer: Value =
        serde_json::from_str(text).unwrap_or_else(|_| panic!("{found}, but not JSON: {text:?}"));
    assert_eq!(
        (found, answer["error"]["code"].as_str()),
        (status, Some(code)),
        "{answer}"
    );
    assert!(content_type.starts_with(JSON), "{content_type}");
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (keys(&answer), keys(&answer["error"])),
        (vec!["error".into()], vec!["code".into(), "message".into()])
    );
    let message = answer["error"]["message"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(message.len() > 15, "{message:?} is not helpful");
    message
}

fn post(
    server: &TestServer,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> RequestBuilder {
    server
        .http
        .post(server.at(path))
        .header("content-type", content_type)
        .body(body)
}

async fn sent(request: RequestBuilder) -> Response {
    within("a response", request.send())
        .await
        .expect("an answer")
}

/// Publishes and returns the data as stored in the log.
async fn stored(server: &TestServer, request: RequestBuilder) -> String {
    let response = sent(request).await;
    let status = response.status();
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        answer.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["id"]
    );
    let last = server.history("sse").await.pop().expect("an event");
    assert_eq!(answer["id"], last.id);
    last.data
}

/// A response that was read from a raw socket.
#[derive(Debug)]
struct RawAnswer {
    status: u16,
    headers: String,
    body: String,
}

impl RawAnswer {
    fn refusal(&self, status: u16, code: &str) -> String {
        let content_type = self
            .headers
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "));
        checked(
            self.status,
            content_type.unwrap_or_default(),
            &self.body,
            status,
            code,
        )
    }

    /// Reads the next response, with as many bytes of body as its `content-length` states.
    async fn read(socket: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            if let Some(end) = text.find("\r\n\r\n") {
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if bytes.len() >= end + 4 + length.unwrap_or(0) {
                    let status = text
                        .split(' ')
                        .nth(1)
                        .and_then(|status| status.parse().ok())
                        .expect("a status");
                    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                    return Self {
                        status,
                        headers: text[..end].to_owned(),
                        body,
                    };
                }
            }
            let mut byte = [0];
            let count = within("a response", socket.read(&mut byte))
                .await
                .expect("a response that can be read");
            assert!(count > 0, "the connection ended after {text:?}");
            bytes.push(byte[0]);
        }
    }
}

async fn raw(server: &TestServer, request: &[u8]) -> RawAnswer {
    let mut socket = server.connect().await;
    socket
        .write_all(request)
        .await
        .expect("the server accepts the request");
    RawAnswer::read(&mut socket).await
}
