//! Sends requests to one server, and interprets the responses.
//!
//! A request is sent once: sending it twice could publish its events twice. Only [`retry`] repeats
//! a request, with an idempotency key. Requests may be in flight at the same time; each takes an
//! idle connection or opens one. [`direct`] sends plain HTTP without a proxy; [`client`] supports
//! TLS, proxies and passwords.

mod client;
mod direct;
mod failure;
mod ids;
mod outcome;
mod response;
pub(crate) mod retry;
mod timeouts;

use std::{path::Path, time::Duration};

use sse_cli::tls::TlsTrust;

use self::{
    client::Client,
    direct::Direct,
    response::{NoResponse, Response},
};
pub(crate) use self::{
    failure::{Failure, FailureKind},
    ids::{ExpectedResponse, Ids},
    outcome::Outcome,
    timeouts::REQUEST_TIMEOUT,
};
use crate::request::{OutgoingRequest, base_url::BaseUrl};

/// Sends requests to one server.
#[derive(Debug)]
pub(crate) enum Publisher {
    /// Plain HTTP, by hyper.
    Direct(Direct),
    /// TLS, proxies and passwords, by reqwest.
    Client(Client),
}

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client for {url}")]
pub(crate) struct PublisherError {
    url: BaseUrl,
    source: reqwest::Error,
}

impl Publisher {
    /// Sets up the client without connecting.
    ///
    /// Connections lead to the unix socket at `socket` if there is one, otherwise to the host of
    /// `base`.
    ///
    /// The process must have a default crypto provider of rustls.
    ///
    /// # Errors
    ///
    /// The client cannot be set up: for https, the system has no certificates.
    pub(crate) fn new(
        base: &BaseUrl,
        trust: TlsTrust<'_>,
        socket: Option<&Path>,
        request_timeout: Duration,
    ) -> Result<Self, PublisherError> {
        let has_proxy = socket.is_none() && base.proxy().is_some();
        if base.is_plain() && !base.has_user() && !has_proxy {
            return Ok(Self::Direct(Direct::new(base, socket, request_timeout)));
        }
        match Client::new(base, trust, socket, request_timeout) {
            Ok(client) => Ok(Self::Client(client)),
            Err(source) => Err(PublisherError {
                url: base.clone(),
                source,
            }),
        }
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: OutgoingRequest) -> Result<Response, NoResponse> {
        match self {
            Self::Direct(direct) => direct.send(request).await,
            Self::Client(client) => client.send(request).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{SocketAddr, TcpListener},
    };

    use super::*;
    use crate::{
        payload::{DataFormat, NextEvent},
        request::{RequestBuilder, RequestOptions},
    };

    async fn send(
        scheme: &str,
        address: SocketAddr,
        request_timeout: Duration,
    ) -> Result<Response, NoResponse> {
        // Fails if another test was first, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base: BaseUrl = format!("{scheme}{address}").parse().unwrap();
        let event = NextEvent {
            event_type: "view".parse().unwrap(),
            format: DataFormat::Json,
        };
        let request = RequestBuilder::new(&base, None, RequestOptions::default())
            .build_event_request(&event, "1", 0)
            .unwrap();
        Publisher::new(&base, TlsTrust::default(), None, request_timeout)
            .unwrap()
            .send(request)
            .await
    }

    /// Both clients for plain HTTP: a password needs reqwest.
    const PLAIN: [&str; 2] = ["http://", "http://me:secret@"];

    #[tokio::test]
    async fn a_refused_connection_sent_nothing() {
        // A socket that does not listen keeps the port, so that no other test gets it.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        for scheme in PLAIN {
            let response = send(scheme, address, REQUEST_TIMEOUT).await;
            assert!(
                matches!(&response, Err(NoResponse::Connect(why)) if why.contains("refused")),
                "{response:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_request_without_a_response_in_time_may_have_been_sent() {
        // The kernel accepts the connection and the request; no response follows.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for scheme in PLAIN {
            let response = send(
                scheme,
                listener.local_addr().unwrap(),
                Duration::from_millis(50),
            )
            .await;
            assert!(matches!(response, Err(NoResponse::Timeout)), "{response:?}");
        }
    }

    #[tokio::test]
    async fn https_to_a_port_for_plain_http_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
            // Keep the connection until the client closes it.
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
        });
        let response = send("https://", address, REQUEST_TIMEOUT).await;
        assert!(
            matches!(&response, Err(NoResponse::Connect(why)) if why.contains("write http:// instead of https://")),
            "{response:?}"
        );
    }

    #[tokio::test]
    async fn a_tls_handshake_that_hangs_sent_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let response = send("https://", listener.local_addr().unwrap(), REQUEST_TIMEOUT).await;
        assert!(
            matches!(response, Err(NoResponse::Connect(_))),
            "{response:?}"
        );
    }
}
