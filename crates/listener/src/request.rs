//! The HTTP client, and the request that opens a stream.
//!
//! There is no total time-out: a stream has no end, and when it is idle is for `connection` to tell. Nothing is
//! compressed: an intermediary that compresses holds events back. A connection is never used twice: one that has
//! broken once may be half-open.

use std::time::Duration;

use reqwest::{
    Client, ClientBuilder, RequestBuilder,
    header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderValue},
};
use url::Url;

use crate::{endpoint::StreamUrl, settings::Settings};

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection to be made.
    pub connect: Duration,
    /// For the answer's head, and then for the next bytes: three heartbeats of our server.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(45) }
    }
}

/// Idle seconds after which the kernel asks whether the other side is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// What is asked for, again and again, with ever later ids.
#[derive(Debug)]
pub struct Request {
    client: Client,
    url: Url,
    timeouts: Timeouts,
}

impl Request {
    /// The request that the settings ask for.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(settings: &Settings, timeouts: Timeouts) -> reqwest::Result<Self> {
        let channel = settings.channel.iter().map(|channel| ("channel", channel.as_str()));
        let events = settings.events.iter().map(|kind| ("event", kind.as_str()));
        let url = settings.url.with_query(channel.chain(events));
        Ok(Self { client: client(&settings.url, timeouts)?, url, timeouts })
    }

    /// The request for what follows `last_event_id`; empty means for what comes next.
    pub fn after(&self, last_event_id: &str) -> RequestBuilder {
        let request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "text/event-stream")
            .header(ACCEPT_ENCODING, "identity")
            .header(CACHE_CONTROL, "no-store");
        match id_header(last_event_id) {
            Some(id) if !id.is_empty() => request.header("last-event-id", id),
            _ => request,
        }
    }

    /// The time-outs that it was made with.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }
}

/// A last event id as the value of a header, as UTF-8; none if it has control characters, which no header can carry.
#[must_use]
pub fn id_header(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(id.as_bytes()).ok()
}

fn client(url: &StreamUrl, timeouts: Timeouts) -> reqwest::Result<Client> {
    match builder(url, timeouts).build() {
        // A small container has no certificates, and plain HTTP does not need any.
        Err(error) if error.is_builder() && !url.is_https() => builder(url, timeouts).tls_certs_only([]).build(),
        built => built,
    }
}

fn builder(url: &StreamUrl, timeouts: Timeouts) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .tcp_keepalive(TCP_KEEPALIVE)
        .pool_max_idle_per_host(0);
    if url.is_loopback() { builder.no_proxy() } else { builder }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn built(arguments: &[&str], last_event_id: &str) -> reqwest::Request {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings::parse_from([&["listener", "--url", "http://h"], arguments].concat());
        Request::new(&settings, Timeouts::default()).unwrap().after(last_event_id).build().unwrap()
    }

    #[test]
    fn a_filter_becomes_a_query() {
        assert_eq!(built(&[], "").url().as_str(), "http://h/stream");
        let filtered = built(&["--channel", "orders", "--event", "a", "--event", "b"], "");
        assert_eq!(filtered.url().query(), Some("channel=orders&event=a&event=b"));
    }

    #[test]
    fn the_last_event_id_is_sent_when_there_is_one_and_a_header_can_carry_it() {
        let sent = |id| built(&[], id).headers().get("last-event-id").map(|value| value.as_bytes().to_vec());
        assert_eq!(sent("1700-0").as_deref(), Some("1700-0".as_bytes()));
        assert_eq!(sent("é").as_deref(), Some("é".as_bytes()));
        assert_eq!(sent(""), None);
        assert_eq!(sent("a\u{1}"), None);
    }

    #[test]
    fn nothing_is_cached_or_compressed() {
        let request = built(&[], "");
        let value = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        assert_eq!(value("accept"), Some(b"text/event-stream".as_slice()));
        assert_eq!(value("cache-control"), Some(b"no-store".as_slice()));
        assert_eq!(value("accept-encoding"), Some(b"identity".as_slice()));
    }
}
