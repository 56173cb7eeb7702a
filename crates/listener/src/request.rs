//! The HTTP client, and the request that opens a stream.
//!
//! There is no total time-out: a stream has no end, and when it is idle is for `connection` to tell. Nothing is
//! compressed: an intermediary that compresses holds events back. A connection is never used twice: one that has
//! broken once may be half-open.

use std::time::Duration;

use reqwest::{
    Client, ClientBuilder, RequestBuilder,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue},
    redirect::Policy,
};
use url::Url;

use crate::{
    endpoint::StreamUrl,
    header::{Header, LAST_EVENT_ID},
    redirect::Route,
    settings::Settings,
};

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection to be made.
    pub connect: Duration,
    /// For the answer's head, and then for the next bytes.
    pub idle: Duration,
}

/// A connection that takes longer to be made is tried anew.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Idle seconds after which the kernel asks whether the other side is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// What is asked for, again and again, with ever later ids.
#[derive(Debug)]
pub struct Request {
    client: Client,
    url: Url,
    /// What only the origin of `url` may get.
    secrets: HeaderMap,
    timeouts: Timeouts,
}

impl Request {
    /// The request that the settings ask for.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(settings: &Settings) -> reqwest::Result<Self> {
        let timeouts = Timeouts { connect: CONNECT_MAX, idle: settings.idle_timeout };
        let channel = settings.channel.iter().map(|channel| ("channel", channel.as_str()));
        let events = settings.events.iter().map(|kind| ("event", kind.as_str()));
        let url = settings.url.with_query(channel.chain(events));
        let mut secrets = HeaderMap::new();
        for Header { name, value } in &settings.headers {
            secrets.append(name, value.clone());
        }
        if let Some(bearer) = &settings.bearer {
            secrets.insert(AUTHORIZATION, bearer.0.clone());
        }
        Ok(Self { client: client(&settings.url, timeouts)?, url, secrets, timeouts })
    }

    /// The way to the stream, at its start.
    #[must_use]
    pub fn route(&self) -> Route {
        Route::from(&self.url)
    }

    /// The request, at this point of its way, for what follows `last_event_id`; empty means for what comes next.
    pub fn along(&self, route: &Route, last_event_id: &str) -> RequestBuilder {
        let mut headers = if route.is_trusted() { self.secrets.clone() } else { HeaderMap::new() };
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(id) = id_header(last_event_id).filter(|id| !id.is_empty()) {
            headers.insert(LAST_EVENT_ID, id);
        }
        self.client.get(route.url().clone()).headers(headers)
    }

    /// It has something to withhold from other origins: headers, or a password in its URL.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || !self.url.username().is_empty() || self.url.password().is_some()
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
        // They are followed by `redirect`, which keeps secrets where they belong.
        .redirect(Policy::none())
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
        let request = Request::new(&settings).unwrap();
        request.along(&request.route(), last_event_id).build().unwrap()
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
    #[test]
    fn headers_of_the_user_are_added_or_replace_the_usual_ones() {
        let request = built(&["--header", "X-A: 1", "--header", "x-a: 2", "--header", "User-Agent: me"], "");
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        let values: Vec<_> = request.headers().get_all("user-agent").iter().collect();
        assert_eq!(values, ["me"]);
    }
}
