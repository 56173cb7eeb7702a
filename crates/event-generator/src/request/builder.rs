//! Builds the requests of a run from the user's options.

use std::{borrow::Cow, num::NonZeroU64};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use sse_proto::Channel;

use super::{
    base_url::BaseUrl,
    body::BodySource,
    headers::{RequestHeaders, Unsendable},
    options::RequestOptions,
    template::{Template, Values},
};
use crate::payload::NextEvent;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// A request that can be sent.
#[derive(Debug, Clone)]
pub(crate) struct OutgoingRequest {
    /// Method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// All headers except those of the connection and of the length of the body.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

/// Builds the requests of a run.
#[derive(Debug)]
pub(crate) struct RequestBuilder {
    method: Method,
    /// Path of the server's URL, without a slash at its end.
    prefix: String,
    path: Template,
    /// Path and query of batches.
    batch_target: String,
    channel: Channel,
    channels: Option<NonZeroU64>,
    body: BodySource,
    headers: RequestHeaders,
    uses_sse_server_api: bool,
}

impl RequestBuilder {
    /// Builds requests to the server at `base`. They name a channel only if the user does.
    pub(crate) fn new(base: &BaseUrl, channel: Option<&Channel>, options: RequestOptions) -> Self {
        let uses_sse_server_api = options.use_sse_server_api();
        let body = BodySource::new(options.has_body(), options.body);
        let event_path = || default_path("/event/{action}", channel);
        Self {
            method: options.method.unwrap_or(Method::POST),
            prefix: base.prefix().to_owned(),
            path: options.path.unwrap_or_else(event_path),
            batch_target: batch_target(base, channel),
            channel: channel.cloned().unwrap_or_else(Channel::default_channel),
            channels: options.channels,
            body,
            headers: RequestHeaders::new(options.headers, options.bearer),
            uses_sse_server_api,
        }
    }

    /// Returns whether requests use the API of sse-server, which determines the responses to expect.
    pub(crate) fn uses_sse_server_api(&self) -> bool {
        self.uses_sse_server_api
    }

    /// Builds the request for one event.
    ///
    /// # Errors
    ///
    /// A header would contain control characters.
    pub(crate) fn build_event_request(
        &self,
        event: &NextEvent,
        data: &str,
        sequence: u64,
    ) -> Result<OutgoingRequest, Unsendable> {
        let values = Values {
            action: event.event_type.as_str(),
            data,
            sequence,
            channel: &self.channel_of(sequence),
        };
        let mut headers = self.headers.render(&values)?;
        let (body, content_type) = self.body.render(&values, event.format);
        if let Some(content_type) = content_type {
            headers.entry(CONTENT_TYPE).or_insert(content_type);
        }
        Ok(OutgoingRequest {
            method: self.method.clone(),
            target: self.render_target(&values),
            headers,
            body,
        })
    }

    /// Returns the channel of the event with this number.
    fn channel_of(&self, sequence: u64) -> Cow<'_, str> {
        let name = self.channel.as_str();
        match self.channels {
            Some(channels) => format!("{name}.{}", sequence % channels).into(),
            None => name.into(),
        }
    }

    fn render_target(&self, values: &Values<'_>) -> String {
        let mut target = String::with_capacity(self.prefix.len() + 64);
        target.push_str(&self.prefix);
        self.path.render(values, &mut target);
        target
    }

    /// Builds the request for a batch: `POST /events` of sse-server.
    pub(crate) fn build_batch_request(&self, lines: Bytes) -> OutgoingRequest {
        let mut headers = self.headers.constant();
        headers.insert(CONTENT_TYPE, NDJSON);
        OutgoingRequest {
            method: Method::POST,
            target: self.batch_target.clone(),
            headers,
            body: lines,
        }
    }
}

/// Returns a path of sse-server's API, with the channel in its query if the user names one.
fn default_path(path: &str, channel: Option<&Channel>) -> Template {
    let query = channel.map_or("", |_| "?channel={channel}");
    Template::parse(&format!("{path}{query}")).percent_encoded()
}

fn batch_target(base: &BaseUrl, channel: Option<&Channel>) -> String {
    let values = Values {
        action: "",
        data: "",
        sequence: 0,
        channel: channel.map_or("", Channel::as_str),
    };
    let mut target = base.prefix().to_owned();
    default_path("/events", channel).render(&values, &mut target);
    target
}

#[cfg(test)]
mod tests {
    use sse_cli::header::Bearer;

    use super::*;
    use crate::{payload::DataFormat, request::Header};

    fn event(event_type: &str, format: DataFormat) -> NextEvent {
        NextEvent {
            event_type: event_type.parse().unwrap(),
            format,
        }
    }

    fn requests(url: &str, channel: Option<&str>, options: RequestOptions) -> RequestBuilder {
        let channel = channel.map(|name| name.parse().unwrap());
        RequestBuilder::new(&url.parse().unwrap(), channel.as_ref(), options)
    }

    fn target(url: &str, channel: Option<&str>, action: &str) -> String {
        requests(url, channel, RequestOptions::default())
            .build_event_request(&event(action, DataFormat::Json), "1", 0)
            .unwrap()
            .target
    }

    fn header<'a>(outgoing: &'a OutgoingRequest, name: &str) -> &'a str {
        outgoing.headers[name].to_str().unwrap()
    }

    #[test]
    fn the_path_of_the_url_is_a_prefix() {
        for url in ["http://h:5000", "http://h:5000/"] {
            assert_eq!(target(url, None, "view"), "/event/view");
        }
        for url in ["https://h/a/b", "https://h/a/b/"] {
            assert_eq!(target(url, None, "view"), "/a/b/event/view");
        }
    }

    #[test]
    fn an_action_is_percent_encoded_as_one_segment() {
        for (action, path) in [
            ("a b", "a%20b"),
            ("50%", "50%25"),
            ("a?b#c", "a%3Fb%23c"),
            ("é", "%C3%A9"),
            (r"a\b", "a%5Cb"),
        ] {
            assert_eq!(target("http://h", None, action), format!("/event/{path}"));
        }
    }

    #[test]
    fn the_channel_is_named_only_if_given() {
        assert_eq!(
            target("http://h", Some("eu:a~b"), "view"),
            "/event/view?channel=eu%3Aa~b"
        );
        let batch = |channel| {
            requests("http://h/x/", channel, RequestOptions::default())
                .build_batch_request(Bytes::new())
        };
        assert_eq!(
            (batch(None).target, batch(Some("a")).target),
            ("/x/events".into(), "/x/events?channel=a".into())
        );
        assert_eq!(header(&batch(None), "content-type"), "application/x-ndjson");
    }

    #[test]
    fn several_channels_get_the_events_in_turn() {
        let options = RequestOptions {
            channels: NonZeroU64::new(3),
            ..RequestOptions::default()
        };
        let requests = requests("http://h", Some("users"), options);
        let event = event("click", DataFormat::Json);
        let targets = [0, 1, 2, 3].map(|sequence| {
            let request = requests.build_event_request(&event, "{}", sequence);
            request.unwrap().target
        });
        let expected = [0, 1, 2, 0].map(|nth| format!("/event/click?channel=users.{nth}"));
        assert_eq!(targets, expected);
    }

    #[test]
    fn json_and_text_have_their_content_types() {
        let requests = requests("http://h", None, RequestOptions::default());
        let json = requests
            .build_event_request(&event("a", DataFormat::Json), "{}", 0)
            .unwrap();
        assert_eq!(
            (header(&json, "content-type"), &json.body[..]),
            ("application/json", &b"{}"[..])
        );
        let text = requests
            .build_event_request(&event("a", DataFormat::Text), "two\nlines", 0)
            .unwrap();
        assert_eq!(
            (header(&text, "content-type"), &text.body[..]),
            ("text/plain; charset=utf-8", &b"two\nlines"[..])
        );
    }

    #[test]
    fn templates_can_build_any_request() {
        let options = RequestOptions {
            method: Some(Method::PUT),
            path: Some(Template::parse("/t/{channel}?n={seq}").percent_encoded()),
            body: Some(Template::parse("topic={channel:url}&data={data:url}")),
            headers: [
                "Content-Type: application/x-www-form-urlencoded",
                "X-Type: {action}",
                "X-A: 1",
                "X-A: 2",
            ]
            .map(|text| Header::parse(text).unwrap())
            .into(),
            bearer: Some(Bearer::parse("token").unwrap()),
            channels: None,
        };
        assert!(options.include_data() && !options.use_sse_server_api());
        let outgoing = requests("http://h/p", Some("a:b"), options)
            .build_event_request(&event("view", DataFormat::Json), r#"{"a":1}"#, 3)
            .unwrap();
        assert_eq!(
            (outgoing.method.as_str(), outgoing.target.as_str()),
            ("PUT", "/p/t/a%3Ab?n=3")
        );
        assert_eq!(&outgoing.body[..], b"topic=a%3Ab&data=%7B%22a%22%3A1%7D");
        assert_eq!(
            header(&outgoing, "content-type"),
            "application/x-www-form-urlencoded"
        );
        assert_eq!(
            (
                header(&outgoing, "x-type"),
                header(&outgoing, "authorization")
            ),
            ("view", "Bearer token")
        );
        assert_eq!(outgoing.headers.get_all("x-a").iter().count(), 2);
        assert!(!format!("{outgoing:?}").contains("token"));
    }

    #[test]
    fn data_cannot_break_a_header() {
        let options = RequestOptions {
            headers: vec![Header::parse("X-Data: {data}").unwrap()],
            ..RequestOptions::default()
        };
        let requests = requests("http://h", None, options);
        assert!(
            requests
                .build_event_request(&event("a", DataFormat::Text), "plain", 0)
                .is_ok()
        );
        let error = requests
            .build_event_request(&event("a", DataFormat::Text), "x\r\nX-Admin: 1", 0)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the header x-data would contain control characters"
        );
    }

    #[test]
    fn a_method_without_a_body_carries_no_data() {
        let options = RequestOptions {
            method: Some(Method::GET),
            ..RequestOptions::default()
        };
        assert!(!options.include_data());
        let outgoing = requests("http://h", None, options)
            .build_event_request(&event("view", DataFormat::Json), "1", 0)
            .unwrap();
        assert!(outgoing.body.is_empty() && outgoing.headers.get(CONTENT_TYPE).is_none());
    }
}
