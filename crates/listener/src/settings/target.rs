//! What is asked for, and of whom: the settings that following a stream and `listener bench` share.

use std::num::NonZeroU64;

use clap::{Args, builder::NonEmptyStringValueParser};
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use sse_cli::{
    authorization::check_one_source, header::Bearer, secret::Unquoted, switch::parse_switch,
};
use sse_proto::Channel;

use super::{
    body::RequestBody, header::Header, last_event_id::to_header_value, stream_url::StreamUrl,
    values::parse_count,
};

/// The request for a stream.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Where the stream is: http or https; may be repeated
    ///
    /// Without a path, /stream is meant. A query is sent as it is, with --channel and its like added to it. Several URLs
    /// are the nodes of one system: when one gives no stream the next one is asked at once, from the last event id (in the
    /// variable they are separated by spaces). Proxies are taken from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, but never for this
    /// machine itself.
    // A URL may hold a password: help does not print the environment's.
    #[arg(
        long = "url",
        env = "LISTENER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000"
    )]
    #[arg(value_name = "URL", value_delimiter = ' ', value_parser = Unquoted(str::parse::<StreamUrl>))]
    pub urls: Vec<StreamUrl>,

    /// Send this as well: `Authorization: Bearer TOKEN`
    ///
    /// Give it by the variable rather than by the flag: every user of this machine can see a command line. It is never
    /// printed. It is sent to the scheme, host and port of --url only: a redirect to another one does not get it.
    #[arg(
        long,
        env = "LISTENER_BEARER",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    #[arg(value_parser = Unquoted(Bearer::parse), allow_hyphen_values = true)]
    pub bearer: Option<Bearer>,

    /// Send this header as well, like 'X-Api-Key: 123'; may be repeated
    ///
    /// The variable holds one header. Accept, Accept-Encoding, Cache-Control, Last-Event-ID and the headers about the
    /// connection are set by the listener itself. Values are never printed, and like --bearer they are sent to the
    /// scheme, host and port of --url only. A secret is better kept in the variable than on the command line.
    #[arg(
        long = "header",
        env = "LISTENER_HEADER",
        hide_env_values = true,
        value_name = "NAME: VALUE"
    )]
    #[arg(value_parser = Unquoted(Header::parse))]
    pub headers: Vec<Header>,

    /// Ask with this method, like POST; without it GET, or POST if there is a --body
    ///
    /// A redirect turns it into GET as in browsers: 303 always, 301 and 302 for a POST.
    #[arg(long, env = "LISTENER_METHOD", value_name = "METHOD", value_parser = parse_method)]
    pub method: Option<Method>,

    /// Send this body with the request; @FILE sends what is in a file, @- what is on stdin
    ///
    /// Its Content-Type is application/json unless --header says otherwise. It is sent again with every reconnection,
    /// and along with a redirect (307, 308), to another host too.
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
    /// Sent as the query parameter `channel`. Several may also be given at once, separated by commas. Without it the server
    /// chooses; sse-server takes the channel `sse`.
    #[arg(
        long = "channel",
        env = "LISTENER_CHANNEL",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub channels: Vec<Channel>,

    /// Get only events of this type; may be repeated
    ///
    /// Sent as query parameters `event`: the server filters. Several types may also be given at once, separated by
    /// commas. A `gap` event, by which the server says that events are missing, always comes through.
    #[arg(
        long = "event",
        env = "LISTENER_EVENT",
        value_name = "TYPE",
        value_delimiter = ','
    )]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub events: Vec<String>,

    /// Begin right after the event with this id
    ///
    /// The `id` of the last event that you have, as --format json prints it. Without it the stream begins with what
    /// comes next. Either way the listener itself keeps the id from then on, as long as it runs.
    #[arg(long, env = "LISTENER_LAST_EVENT_ID", value_name = "ID", value_parser = parse_event_id, group = "start")]
    pub last_event_id: Option<String>,

    /// Begin with what was published since: 10m, 2h, 1d ago, an RFC 3339 time, or milliseconds since 1970
    ///
    /// Sent as the query parameter `since`, which sse-server knows. It counts until the first id has come: from then on
    /// the listener goes on after the last one.
    #[arg(long, env = "LISTENER_SINCE", value_name = "TIME", group = "start")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub since: Option<String>,

    /// Begin with the newest N events that are there (of each channel)
    ///
    /// Sent as the query parameter `last`, which sse-server knows. Like --since, it counts until the first id has come.
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
    /// For a server of your own with a certificate that nobody has signed. Whoever is on the way can then read and
    /// change everything, --bearer and --header included.
    #[arg(long, env = "LISTENER_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub insecure: bool,
}

impl Target {
    /// What the flags add to a URL's query, in order.
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

    /// How to ask.
    #[must_use]
    pub fn method(&self) -> Method {
        match (&self.method, &self.body) {
            (Some(method), _) => method.clone(),
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        }
    }

    /// The headers that the user adds: what only the origin that the user named may get.
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

    /// What the body is, if there is one or the user says so.
    #[must_use]
    pub fn content_type(&self) -> Option<HeaderValue> {
        let said = self
            .headers
            .iter()
            .find(|header| header.name == CONTENT_TYPE)
            .map(|header| header.value.clone());
        said.or_else(|| {
            self.body
                .as_ref()
                .map(|_| HeaderValue::from_static("application/json"))
        })
    }

    /// A request has one `Authorization`, and which one is not for us to choose; and every node is named once.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_one_source(
            self.bearer.is_some(),
            self.headers.iter().map(|header| &header.name),
            self.urls.iter().any(StreamUrl::has_user),
        )?;
        match self
            .urls
            .iter()
            .enumerate()
            .find(|(nth, url)| self.urls[..*nth].contains(url))
        {
            Some((_, twice)) => Err(format!("--url {twice} is given twice")),
            None => Ok(()),
        }
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(upper.as_bytes()) {
        Ok(Method::HEAD | Method::CONNECT) => Err(format!("the answer to {upper} has no stream")),
        Ok(method) => Ok(method),
        Err(_) => Err("write an HTTP method, like GET or POST".to_owned()),
    }
}

fn parse_event_id(id: &str) -> Result<String, String> {
    if to_header_value(id).is_some() {
        Ok(id.to_owned())
    } else {
        Err("an event id has no control characters: it is sent as an HTTP header".to_owned())
    }
}
