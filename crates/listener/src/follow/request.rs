//! The HTTP client, and the request that opens a stream.
//!
//! - There is no total timeout, because a stream has no end; `connection` detects an idle stream.
//! - Nothing is compressed, because an intermediary that compresses delays events.
//! - No connection is reused, because a broken one may be half-open.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, ClientBuilder, Method, RequestBuilder, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use sse_cli::proxy::Proxy;
use url::Url;

use crate::{
    follow::redirect::Route,
    settings::{
        follow::FollowSettings,
        last_event_id::{LAST_EVENT_ID, to_header_value},
        stream_url::StreamUrl,
    },
};

/// Limits of time.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection to be established.
    pub connect: Duration,
    /// For the head of the response, and then for the next bytes.
    pub idle: Duration,
}

/// A connection that takes longer to be established is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Idle time after which the kernel probes the other side.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// The request to one node, sent again with every reconnect.
#[derive(Debug)]
pub struct StreamRequest {
    client: Client,
    url: Url,
    method: Method,
    body: Option<Bytes>,
    content_type: Option<HeaderValue>,
    /// Headers that only the origin of `url` may receive.
    secrets: HeaderMap,
    timeouts: Timeouts,
    /// Statuses that are transient, besides the usual ones.
    retried_statuses: Vec<StatusCode>,
    uses_unix_socket: bool,
    has_cacert: bool,
}

impl StreamRequest {
    /// Prepares the request of the settings to one of their URLs.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(settings: &FollowSettings, url: &StreamUrl) -> reqwest::Result<Self> {
        let target = &settings.target;
        let timeouts = Timeouts {
            connect: CONNECT_MAX,
            idle: settings.idle_timeout,
        };
        Ok(Self {
            client: build_client(url, settings, timeouts)?,
            url: url.with_query(target.query()),
            method: target.method(),
            body: target.body.as_ref().map(|body| body.0.clone()),
            content_type: target.content_type(),
            secrets: target.secret_headers(),
            timeouts,
            retried_statuses: settings.retry_status.clone(),
            uses_unix_socket: settings.unix_socket.is_some(),
            has_cacert: target.cacert.is_some(),
        })
    }

    /// The route to the stream, before any redirect.
    #[must_use]
    pub fn initial_route(&self) -> Route {
        Route::new(&self.url, self.method.clone())
    }

    /// Builds the request at this point of the route, for the events after `last_event_id`. An
    /// empty id requests the next events.
    pub fn build(&self, route: &Route, last_event_id: &str) -> RequestBuilder {
        let mut headers = self.secrets_for(route);
        insert_stream_headers(&mut headers, last_event_id);
        let body = self.body.as_ref().filter(|_| route.has_body());
        if let Some(content_type) = &self.content_type
            && route.has_body()
        {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        let (method, url) = (route.method().clone(), route.url().clone());
        let request = self.client.request(method, url).headers(headers);
        match body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
    }

    fn secrets_for(&self, route: &Route) -> HeaderMap {
        if route.is_trusted() {
            self.secrets.clone()
        } else {
            HeaderMap::new()
        }
    }

    /// Returns `true` if `--cacert` was given.
    #[must_use]
    pub const fn has_cacert(&self) -> bool {
        self.has_cacert
    }

    /// Returns the proxy through which requests for `url` go, if there is one.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<Proxy> {
        if self.uses_unix_socket {
            None
        } else {
            Proxy::for_url(url)
        }
    }

    /// Returns `true` if headers, or a password in the URL, must be withheld from other origins.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// Statuses that are transient, besides the usual ones.
    #[must_use]
    pub fn retried_statuses(&self) -> &[StatusCode] {
        &self.retried_statuses
    }

    /// The limits of time.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }
}

/// Inserts the headers that a stream needs (WHATWG HTML §9.2.2), and the last event id.
fn insert_stream_headers(headers: &mut HeaderMap, last_event_id: &str) {
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = to_header_value(last_event_id).filter(|id| !id.is_empty()) {
        headers.insert(LAST_EVENT_ID, id);
    }
}

fn build_client(
    url: &StreamUrl,
    settings: &FollowSettings,
    timeouts: Timeouts,
) -> reqwest::Result<Client> {
    let trust = settings.target.tls_trust();
    let socket = settings.unix_socket.as_deref();
    let builder = || trust.apply(client_builder(url, socket, timeouts));
    match builder().build() {
        // A small container may have no certificates; plain HTTP needs none.
        Err(error) if error.is_builder() && !url.is_https() => builder().tls_certs_only([]).build(),
        built => built,
    }
}

fn client_builder(url: &StreamUrl, socket: Option<&Path>, timeouts: Timeouts) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .connect_timeout(timeouts.connect)
        .tcp_keepalive(TCP_KEEPALIVE)
        // `redirect` follows redirects without sending secrets to other origins.
        .redirect(Policy::none())
        .pool_max_idle_per_host(0);
    match socket {
        Some(path) => builder.unix_socket(path).no_proxy(),
        None if url.is_loopback() => builder.no_proxy(),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::command_line::follow_settings;

    fn built(arguments: &[&str], last_event_id: &str) -> reqwest::Request {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = follow_settings(&[&["--url", "http://h"], arguments].concat());
        let request = StreamRequest::new(&settings, settings.target.first_url()).unwrap();
        request
            .build(&request.initial_route(), last_event_id)
            .build()
            .unwrap()
    }

    #[test]
    fn channels_types_and_start_positions_are_sent_as_the_query() {
        assert_eq!(built(&[], "").url().as_str(), "http://h/stream");
        let filtered = built(&["--channel", "orders", "--event", "a", "--event", "b"], "");
        assert_eq!(
            filtered.url().query(),
            Some("channel=orders&event=a&event=b")
        );
        let several = built(
            &["--channel", "a,b", "--channel", "c", "--since", "10m"],
            "",
        );
        assert_eq!(
            several.url().query(),
            Some("channel=a&channel=b&channel=c&since=10m")
        );
        assert_eq!(built(&["--last", "5"], "").url().query(), Some("last=5"));
    }

    #[test]
    fn a_time_is_sent_as_it_is_written() {
        for (written, sent) in [
            ("90s", "since=90s"),
            ("1795521996.5", "since=1795521996.5"),
            ("1795521996855", "since=1795521996855"),
            (
                "2026-11-24T13:06:36+01:00",
                "since=2026-11-24T13%3A06%3A36%2B01%3A00",
            ),
        ] {
            let request = built(&["--since", written], "");
            assert_eq!(request.url().query(), Some(sent), "{written}");
        }
    }

    #[test]
    fn a_body_is_posted_as_json_unless_a_header_changes_that() {
        let sent = |arguments: &[&str]| {
            let request = built(arguments, "1-0");
            let value = |name| {
                request
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            let body = request
                .body()
                .and_then(reqwest::Body::as_bytes)
                .map(<[u8]>::to_vec);
            assert_eq!(value("last-event-id").as_deref(), Some("1-0"));
            (request.method().to_string(), value("content-type"), body)
        };
        let json = || Some("application/json".to_owned());
        assert_eq!(sent(&[]), ("GET".to_owned(), None, None));
        assert_eq!(sent(&["--method", "post"]), ("POST".to_owned(), None, None));
        assert_eq!(
            sent(&["--body", "{}"]),
            ("POST".to_owned(), json(), Some(b"{}".to_vec()))
        );
        assert_eq!(
            sent(&["--body", "{}", "--method", "REPORT"]),
            ("REPORT".to_owned(), json(), Some(b"{}".to_vec()))
        );
        let form = sent(&[
            "--body",
            "a=b",
            "--header",
            "Content-Type: application/x-www-form-urlencoded",
        ]);
        assert_eq!(form.1.as_deref(), Some("application/x-www-form-urlencoded"));
    }

    #[test]
    fn the_last_event_id_is_sent_if_a_header_can_carry_it() {
        let sent = |id| {
            built(&[], id)
                .headers()
                .get("last-event-id")
                .map(|value| value.as_bytes().to_vec())
        };
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
    fn headers_of_the_user_are_added_or_replace_the_default_ones() {
        let request = built(
            &[
                "--header",
                "X-A: 1",
                "--header",
                "x-a: 2",
                "--header",
                "User-Agent: me",
            ],
            "",
        );
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        let values: Vec<_> = request.headers().get_all("user-agent").iter().collect();
        assert_eq!(values, ["me"]);
    }
}
