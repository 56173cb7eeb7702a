//! The request and the servers that it is sent to: settings that both commands share.

use std::num::NonZeroU64;

use clap::{Args, builder::NonEmptyStringValueParser};
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use sse_cli::{
    authorization::check_one_source,
    header::Bearer,
    secret::Unquoted,
    switch::parse_switch,
    tls::{TlsTrust, TrustedCertificates},
};
use sse_proto::Channel;

use super::{
    body::RequestBody,
    header::Header,
    last_event_id::to_header_value,
    stream_url::StreamUrl,
    url_list::UrlList,
    values::{parse_count, parse_since},
};

/// The request for a stream.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// URL of the stream, http or https; may be repeated
    ///
    /// The default path is /stream. A query is sent as written, with the parameters of --channel
    /// and similar flags added. Several URLs (in the variable, separated by spaces) are the nodes
    /// of one system: if one opens no stream, the next one is tried at once with the last event id.
    /// Proxies are set by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; servers on this
    /// machine are reached without a proxy.
    // A URL can contain a password, so help must not print the variable.
    #[arg(
        long = "url",
        env = "LISTENER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000"
    )]
    #[arg(value_name = "URL", value_parser = Unquoted(UrlList::parse))]
    pub url: Vec<UrlList>,

    /// Send the header `Authorization: Bearer TOKEN`
    ///
    /// Give it by the variable rather than by the flag, because every user of this machine can see
    /// a command line. The token is never printed. It is sent only to the scheme, host and port of
    /// --url, not to the target of a redirect to another origin.
    #[arg(
        long,
        env = "LISTENER_BEARER",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    #[arg(value_parser = Unquoted(Bearer::parse), allow_hyphen_values = true)]
    pub bearer: Option<Bearer>,

    /// Send this header, like 'X-Api-Key: 123'; may be repeated
    ///
    /// The variable holds one header. The listener itself sets Accept, Accept-Encoding,
    /// Cache-Control, Last-Event-ID and the headers of the connection. Values are never printed
    /// and, like --bearer, sent only to the scheme, host and port of --url. Give a secret by the
    /// variable rather than by the flag.
    #[arg(
        long = "header",
        env = "LISTENER_HEADER",
        hide_env_values = true,
        value_name = "NAME: VALUE"
    )]
    #[arg(value_parser = Unquoted(Header::parse))]
    pub headers: Vec<Header>,

    /// Method of the request, like POST; by default GET, or POST with a --body
    ///
    /// Redirects change the method as in browsers: 303 always to GET, 301 and 302 only a POST.
    #[arg(long, env = "LISTENER_METHOD", value_name = "METHOD", value_parser = parse_method)]
    pub method: Option<Method>,

    /// Body of the request; @FILE reads it from a file, @- from stdin
    ///
    /// The Content-Type is application/json unless --header sets another one. The body is sent
    /// again with every reconnect, and with every redirect of status 307 or 308, even to another
    /// host.
    #[arg(
        long,
        env = "LISTENER_BODY",
        hide_env_values = true,
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = Unquoted(RequestBody::parse))]
    pub body: Option<RequestBody>,

    /// Follow this channel; may be repeated
    ///
    /// The name is sent as the query parameter `channel`. Several names can be separated by commas.
    /// By default the server chooses; sse-server chooses the channel `sse`.
    #[arg(
        long = "channel",
        env = "LISTENER_CHANNEL",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub channels: Vec<Channel>,

    /// Receive only events of this type; may be repeated
    ///
    /// The type is sent as the query parameter `event`, and the server filters. Several types can
    /// be separated by commas. The filter always passes `gap` events, which report missing events.
    #[arg(
        long = "event",
        env = "LISTENER_EVENT",
        value_name = "TYPE",
        value_delimiter = ','
    )]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub events: Vec<String>,

    /// Start after the event with this id
    ///
    /// The id is the `id` of the last event that you have, as --format json prints it. Without a
    /// start position the stream begins with the next event. While it runs, the listener always
    /// resumes after the last event received.
    #[arg(long, env = "LISTENER_LAST_EVENT_ID", value_name = "ID", value_parser = parse_event_id, group = "start")]
    pub last_event_id: Option<String>,

    /// Start with the events since this time: 10m, 2h, 1d (ago), an RFC 3339 time, or seconds or
    /// milliseconds since 1970
    ///
    /// The time is sent as written, as the query parameter `since`, which sse-server supports. A
    /// time ago counts by the server's clock. After the first id received, the last event id
    /// overrides it.
    #[arg(long, env = "LISTENER_SINCE", value_name = "TIME", group = "start")]
    #[arg(value_parser = parse_since)]
    pub since: Option<String>,

    /// Start with the newest N events of each channel
    ///
    /// The number is sent as the query parameter `last`, which sse-server supports. After the first
    /// id received, the last event id overrides it.
    #[arg(
        long,
        env = "LISTENER_LAST",
        value_name = "N",
        group = "start",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = parse_count)]
    pub last: Option<NonZeroU64>,

    /// Do not check the server's certificate
    ///
    /// Use this only for your own server with a self-signed certificate: an attacker on the network
    /// path can then read and change everything, including --bearer and --header.
    #[arg(long, env = "LISTENER_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub insecure: bool,

    /// Trust the certificates in this file (PEM) instead of those of the system
    ///
    /// Use it for a server whose certificate is issued by a private authority, or self-signed and
    /// not that of an authority: openssl req -x509 needs -addext
    /// basicConstraints=critical,CA:FALSE.
    #[arg(long, env = "LISTENER_CACERT", value_name = "FILE", value_parser = TrustedCertificates::read)]
    pub cacert: Option<TrustedCertificates>,
}

impl Target {
    /// The URLs of the stream, at least one.
    pub fn urls(&self) -> impl Iterator<Item = &StreamUrl> {
        self.url.iter().flat_map(UrlList::urls)
    }

    /// Which certificates of servers are accepted.
    #[must_use]
    pub const fn tls_trust(&self) -> TlsTrust<'_> {
        TlsTrust {
            insecure: self.insecure,
            trusted: self.cacert.as_ref(),
        }
    }

    /// The parameters that the flags add to the query of a URL, in order.
    pub fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let channels = self
            .channels
            .iter()
            .map(|channel| ("channel", channel.to_string()));
        let events = self.events.iter().map(|kind| ("event", kind.clone()));
        let since = self.since.iter().map(|since| ("since", since.clone()));
        let last = self.last.iter().map(|last| ("last", last.to_string()));
        channels.chain(events).chain(since).chain(last)
    }

    /// The method of the request.
    #[must_use]
    pub fn method(&self) -> Method {
        match (&self.method, &self.body) {
            (Some(method), _) => method.clone(),
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        }
    }

    /// The headers of the user, which only the origin of `--url` may receive.
    #[must_use]
    pub fn secret_headers(&self) -> HeaderMap {
        let mut secrets = HeaderMap::new();
        for Header { name, value } in &self.headers {
            if *name != CONTENT_TYPE {
                secrets.append(name, value.clone());
            }
        }
        if let Some(bearer) = &self.bearer {
            secrets.insert(AUTHORIZATION, bearer.0.clone());
        }
        secrets
    }

    /// The content type, if there is a body or the user sets one.
    #[must_use]
    pub fn content_type(&self) -> Option<HeaderValue> {
        let by_user = self
            .headers
            .iter()
            .find(|header| header.name == CONTENT_TYPE)
            .map(|header| header.value.clone());
        by_user.or_else(|| {
            self.body
                .as_ref()
                .map(|_| HeaderValue::from_static("application/json"))
        })
    }

    /// Checks combinations of settings.
    ///
    /// A request has one `Authorization`, so only one setting may define it. Each URL may be given
    /// once.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_one_source(
            self.bearer.is_some(),
            self.headers.iter().map(|header| &header.name),
            self.urls().any(StreamUrl::has_user),
        )?;
        self.tls_trust().check()?;
        let mut seen = Vec::new();
        for url in self.urls() {
            if seen.contains(&url) {
                return Err(format!("--url {url} is given twice"));
            }
            seen.push(url);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Target {
    /// The first URL.
    pub(crate) fn first_url(&self) -> &StreamUrl {
        self.urls().next().expect("at least the default")
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(upper.as_bytes()) {
        Ok(Method::HEAD | Method::CONNECT) => Err(format!("the response to {upper} has no stream")),
        Ok(method) => Ok(method),
        Err(_) => Err("write an HTTP method, like GET or POST".to_owned()),
    }
}

fn parse_event_id(id: &str) -> Result<String, String> {
    if to_header_value(id).is_some() {
        Ok(id.to_owned())
    } else {
        Err(
            "an event id must not contain control characters: it is sent as an HTTP header"
                .to_owned(),
        )
    }
}
