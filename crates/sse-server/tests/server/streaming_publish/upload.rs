//! A body that a test sends line by line, over HTTP/1.1 or HTTP/2.

use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use http::Request;
use serde_json::Value;

use crate::common::{RawConnection, TestServer, TlsServer, http2::Http2Client, within};

pub(super) const LINES: &str = "application/x-ndjson";

/// A streaming publish whose body is open.
pub(super) enum Upload {
    Http1(RawConnection),
    Http2 {
        _client: Http2Client,
        body: SendStream<Bytes>,
        response: ResponseFuture,
    },
}

/// What a streaming publish got.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Outcome {
    pub(super) fn count(&self) -> u64 {
        self.body["count"].as_u64().unwrap()
    }

    pub(super) fn end_word(&self) -> Option<&str> {
        self.body.pointer("/ended")?.as_str()
    }
}

impl Upload {
    /// Opens a publish over HTTP/1.1, with these lines of the head.
    pub(super) async fn http1(server: &TestServer, query: &str, headers: &str) -> Self {
        let head = format!(
            "POST /events?mode=stream&{query} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: {LINES}\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        );
        Self::Http1(RawConnection::send(server, &head).await)
    }

    /// Opens a publish over HTTP/2.
    pub(super) async fn http2(server: &TlsServer, query: &str, token: Option<&str>) -> Self {
        let client = Http2Client::connect(server.address, &server.certificate()).await;
        let mut request = Request::post(format!("https://localhost/events?mode=stream&{query}"))
            .header("content-type", LINES);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (response, body) = client.open(request).await;
        Self::Http2 {
            _client: client,
            body,
            response,
        }
    }

    /// Opens a publish over one of both versions.
    pub(super) async fn over(
        version: u8,
        server: &TlsServer,
        query: &str,
        token: Option<&str>,
    ) -> Self {
        if version == 2 {
            return Self::http2(server, query, token).await;
        }
        let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        Self::http1(&server.server, query, &header.unwrap_or_default()).await
    }

    /// Sends a part of the body.
    pub(super) async fn send(&mut self, text: &str) {
        match self {
            Self::Http1(connection) => {
                let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                connection.send_more(&chunk).await;
            }
            Self::Http2 { body, .. } => body
                .send_data(Bytes::copy_from_slice(text.as_bytes()), false)
                .unwrap(),
        }
    }

    /// Sends one event with this data.
    pub(super) async fn send_event(&mut self, data: &str) {
        self.send(&format!("{}\n", line(data))).await;
    }

    /// Ends the body, and returns the response.
    pub(super) async fn finish(mut self) -> Outcome {
        match &mut self {
            Self::Http1(connection) => connection.send_more("0\r\n\r\n").await,
            Self::Http2 { body, .. } => body.send_data(Bytes::new(), true).unwrap(),
        }
        self.outcome().await
    }

    /// Waits for the response, which may come before the end of the body.
    pub(super) async fn outcome(self) -> Outcome {
        match self {
            Self::Http1(mut connection) => {
                let head = connection.head().await;
                let body = connection.body_until(&head, "}").await;
                outcome(head.status, &body)
            }
            Self::Http2 { response, .. } => {
                let response = within("a response", response).await.unwrap();
                let status = response.status().as_u16();
                let mut body = response.into_body();
                let mut text = Vec::new();
                while let Some(bytes) = within("the body", body.data()).await {
                    text.extend_from_slice(&bytes.unwrap());
                }
                outcome(status, str::from_utf8(&text).unwrap())
            }
        }
    }
}

fn outcome(status: u16, body: &str) -> Outcome {
    let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {body}"));
    Outcome { status, body }
}

/// A line with this data.
pub(super) fn line(data: &str) -> String {
    format!(r#"{{"event":"a","data":"{data}"}}"#)
}
