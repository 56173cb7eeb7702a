//! One request: posts an event once and says what became of it.
//!
//! It never sends an event twice: that would publish two. Requests may run at the same time; each takes an idle
//! connection or opens one.

use std::time::Duration;

use reqwest::{
    Client, ClientBuilder, Response,
    header::{CONTENT_TYPE, HeaderValue},
    redirect, retry,
};
use sse_proto::Channel;
use url::Url;

use crate::{
    actions::Actions,
    base_url::BaseUrl,
    outcome::{Failure, Outcome},
};

/// How long connecting may take, name lookup and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request may take, connecting included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is closed after this long.
///
/// Many servers close theirs after 5 s; a request that crosses such a close would have an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// More of an answer than this is not read: an id or an error is far smaller.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts events to one server and channel.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Client,
    /// Where the events of each action go, in the order of [`Actions::names`].
    urls: Vec<Url>,
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client for {url}")]
pub(crate) struct PublisherError {
    url: BaseUrl,
    source: reqwest::Error,
}

impl Publisher {
    /// Connects to nothing yet. The process must have a default crypto provider of rustls.
    ///
    /// # Errors
    /// The client cannot be set up: for https, the system has no certificates.
    pub(crate) fn new(
        base: &BaseUrl,
        actions: &Actions,
        channel: Option<&Channel>,
        request_timeout: Duration,
    ) -> Result<Self, PublisherError> {
        let client = client(base, request_timeout).map_err(|source| PublisherError { url: base.clone(), source })?;
        let urls = actions.names().iter().map(|action| base.event(action, channel)).collect();
        Ok(Self { client, urls })
    }

    /// Posts one event. `action` is the action's place in [`Actions::names`].
    pub(crate) async fn publish(&self, action: usize, body: String) -> Outcome {
        let request = self
            .client
            .post(self.urls[action].clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        match request.send().await {
            Ok(mut response) => {
                // A body that breaks off proves no more than its status does: it reads as an empty one.
                let body = answer(&mut response).await.unwrap_or_default();
                Outcome::of_answer(response.status(), &body)
            }
            Err(error) => no_answer(error),
        }
    }
}

fn client(base: &BaseUrl, request_timeout: Duration) -> Result<Client, reqwest::Error> {
    let builder = || {
        let builder = ClientBuilder::new()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(request_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .retry(retry::never())
            .redirect(redirect::Policy::none());
        if base.is_loopback() { builder.no_proxy() } else { builder }
    };
    match builder().build() {
        // A machine without certificates, like a bare container, can still speak plain HTTP.
        Err(_) if base.is_plain() => builder().tls_certs_only([]).build(),
        built => built,
    }
}

async fn answer(response: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn no_answer(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    // In this order: a connection that takes too long is a time-out too, but nothing was sent.
    if error.is_connect() || error.is_builder() {
        Outcome::Refused(Failure::Connect(root_cause(&error)))
    } else if error.is_timeout() {
        Outcome::Unknown(Failure::Timeout)
    } else {
        Outcome::Unknown(Failure::Broken(root_cause(&error)))
    }
}

/// The last of the causes says what happened, like `Connection refused (os error 111)`; those before it say where.
fn root_cause(error: &reqwest::Error) -> String {
    let mut root: &dyn std::error::Error = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    async fn publish(scheme: &str, address: SocketAddr, request_timeout: Duration) -> Outcome {
        // Fails when another test was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = format!("{scheme}://{address}").parse().unwrap();
        let publisher = Publisher::new(&base, &"view".parse().unwrap(), None, request_timeout).unwrap();
        publisher.publish(0, "1".to_owned()).await
    }

    #[tokio::test]
    async fn a_refused_connection_is_a_refused_event() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = publish("http", address, REQUEST_TIMEOUT).await;
        assert!(matches!(outcome, Outcome::Refused(Failure::Connect(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_request_without_an_answer_in_time_is_unknown() {
        // The kernel accepts the connection and the request; nobody ever answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome = publish("http", listener.local_addr().unwrap(), Duration::from_millis(50)).await;
        assert!(matches!(outcome, Outcome::Unknown(Failure::Timeout)), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_tls_handshake_that_hangs_is_a_refused_event() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome = publish("https", listener.local_addr().unwrap(), REQUEST_TIMEOUT).await;
        assert!(matches!(outcome, Outcome::Refused(Failure::Connect(_))), "{outcome:?}");
    }
}
