//! What publishers send: every good form arrives as it was sent, every bad one is refused with a text that helps, and
//! nothing at all makes the server fail.

use std::{collections::BTreeSet, process::Command};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Backend, TestServer, all_at_once, within};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";
const ONE_LINE: &str = r#"{"event":"click","data":"x"}"#;
const ROUTES: [(&str, &str); 6] = [
    ("/event/click", "GET, POST"),
    ("/events", "GET, POST"),
    ("/stream", "GET"),
    ("/health/live", "GET, HEAD"),
    ("/health/ready", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
];

/// Checks that an answer is an error as documented; returns its message.
async fn refusal(response: Response, status: u16, code: &str) -> String {
    let found = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    let text = response.text().await.expect("text");
    let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
    checked(found, content_type.unwrap_or_default(), &text, status, code)
}

fn checked(found: u16, content_type: &str, text: &str, status: u16, code: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{found}, and no JSON: {text:?}"));
    assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    assert!(content_type.starts_with(JSON), "{content_type}");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys(&answer), keys(&answer["error"])), (vec!["error".into()], vec!["code".into(), "message".into()]));
    let message = answer["error"]["message"].as_str().expect("a text").to_owned();
    assert!(message.len() > 15, "{message:?} helps nobody");
    message
}

fn post(server: &TestServer, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    server.http.post(server.at(path)).header("content-type", content_type).body(body)
}

async fn sent(request: RequestBuilder) -> Response {
    within("an answer", request.send()).await.expect("an answer")
}

/// Publishes and returns the data as the log has it.
async fn stored(server: &TestServer, request: RequestBuilder) -> String {
    let response = sent(request).await;
    let status = response.status();
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["id"]);
    let last = server.history("sse").await.pop().expect("an event");
    assert_eq!(answer["id"], last.id);
    last.data
}

/// An answer read off a socket.
#[derive(Debug)]
struct RawAnswer {
    status: u16,
    headers: String,
    body: String,
}

impl RawAnswer {
    fn refusal(&self, status: u16, code: &str) -> String {
        let content_type = self.headers.lines().find_map(|line| line.strip_prefix("content-type: "));
        checked(self.status, content_type.unwrap_or_default(), &self.body, status, code)
    }

    /// The next answer, as far as its `content-length` says.
    async fn read(socket: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            if let Some(end) = text.find("\r\n\r\n") {
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if bytes.len() >= end + 4 + length.unwrap_or(0) {
                    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                    return Self { status, headers: text[..end].to_owned(), body };
                }
            }
            let mut byte = [0];
            let count = within("an answer", socket.read(&mut byte)).await.expect("an answer that can be read");
            assert!(count > 0, "the connection ended after {text:?}");
            bytes.push(byte[0]);
        }
    }
}

async fn raw(server: &TestServer, request: &[u8]) -> RawAnswer {
    let mut socket = server.connect().await;
    socket.write_all(request).await.expect("it takes the request");
    RawAnswer::read(&mut socket).await
}

// --- names

#[tokio::test]
async fn a_channel_that_cannot_be_one_is_refused_on_every_route() {
    let server = TestServer::start(Backend::Memory).await;
    let too_long = "x".repeat(65);
    for channel in
        ["", "a%20b", "a+b", "a/b", "a%2Fb", "%C3%A9", "a%00", "a%0A", "a,b", "a=b", "%7Bsse%7D", "*", &too_long]
    {
        let query = format!("channel={channel}");
        for request in [
            server.http.get(server.at(&format!("/event/click?{query}"))),
            post(&server, &format!("/event/click?{query}"), TEXT, "x"),
            post(&server, &format!("/events?{query}"), LINES, ONE_LINE),
            server.http.get(server.at(&format!("/stream?{query}"))),
            server.http.get(server.at(&format!("/events?{query}"))),
        ] {
            let message = refusal(sent(request).await, 400, "invalid_channel").await;
            assert!(message.contains("1 to 64 characters"), "{message}");
        }
    }
    for channel in ["a", "A-Z.a_z:0~9", &too_long[1..]] {
        server.publish(channel, "click", "x").await;
        assert_eq!(server.history(channel).await.len(), 1);
    }
}

#[tokio::test]
async fn an_action_that_cannot_be_one_is_refused_and_the_others_arrive_as_they_are() {
    let server = TestServer::start(Backend::Memory).await;
    let (too_long, too_long_in_bytes) = ("x".repeat(129), "é".repeat(65));
    let wrong =
        ["", "a%2Fb", "a/b", "a/", "a%0Ab", "a%0Did:%201", "%00", "a%7F", "%C2%85", &too_long, &too_long_in_bytes];
    let reserved = ["gap", "open", "error", "g%61p"];
    for (actions, hint) in [(&wrong[..], "1 to 128 bytes"), (&reserved[..], "reserved")] {
        for action in actions {
            let path = format!("/event/{action}");
            for request in [server.http.get(server.at(&path)), post(&server, &path, TEXT, "x")] {
                let message = refusal(sent(request).await, 400, "invalid_action").await;
                assert!(message.contains(hint), "{action}: {message}");
            }
        }
    }
    let good = [
        ("x", "x"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%25", "%"),
        ("caf%C3%A9", "café"),
        ("%E2%80%A8", "\u{2028}"),
        ("gaps", "gaps"),
        ("Open", "Open"),
        ("message", "message"),
        ("a:b;c=d,e'(f)", "a:b;c=d,e'(f)"),
        (&too_long[1..], &too_long[1..]),
        (&too_long_in_bytes[2..], &too_long_in_bytes[2..]),
    ];
    for (action, _) in good {
        server.publish("sse", action, "x").await;
    }
    let kept: Vec<String> = server.history("sse").await.into_iter().map(|event| event.event).collect();
    assert_eq!(kept, good.map(|(_, event)| event.to_owned()));
}

#[tokio::test]
async fn broken_percent_encoding_is_refused_and_never_replaced() {
    let server = TestServer::start(Backend::Memory).await;
    for bad in ["%", "%4", "%zz", "%+1", "a%FF", "%C3", "%C3%28", "%ED%A0%80", "%F4%90%80%80", "%C0%AF"] {
        for path in [
            format!("/event/{bad}"),
            format!("/event/click?channel={bad}"),
            format!("/event/click?{bad}=1"),
            format!("/stream?event={bad}"),
            format!("/events?last_event_id={bad}"),
        ] {
            let message = refusal(server.get(&path).await.unwrap(), 400, "invalid_encoding").await;
            assert!(message.contains("UTF-8") && message.contains("%25"), "{path}: {message}");
        }
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn a_route_written_with_escapes_is_the_same_route_or_none() {
    let server = TestServer::start(Backend::Memory).await;
    for path in ["/%65vent/click", "/event%2Fclick", "/%65vents"] {
        let response = server.get(path).await.unwrap();
        if response.status() != StatusCode::OK {
            let message = refusal(response, 404, "not_found").await;
            assert!(message.contains(path), "{message}");
        }
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_meant_is_refused() {
    let server = TestServer::start(Backend::Memory).await;
    let many = (0..65).map(|number| format!("event=e{number}")).collect::<Vec<_>>().join("&");
    for (path, code, hint) in [
        ("/event/click?chanel=a", "unknown_parameter", "channel"),
        ("/event/click?event=a", "unknown_parameter", "channel"),
        ("/event/click?channel=a&channel=a", "invalid_parameter", "more than once"),
        ("/stream?limit=5", "unknown_parameter", "last_event_id"),
        ("/stream?Event=a", "unknown_parameter", "event"),
        ("/stream?last_event_id=1-0&last_event_id=1-0", "invalid_parameter", "more than once"),
        ("/stream?event=", "invalid_action", "1 to 128 bytes"),
        ("/stream?event=a%2Fb", "invalid_action", "1 to 128 bytes"),
        (&format!("/stream?{many}"), "invalid_parameter", "64"),
        ("/events?event=a", "unknown_parameter", "limit"),
        ("/events?limit=0", "invalid_parameter", "1 to 10000"),
        ("/events?limit=-1", "invalid_parameter", "1 to 10000"),
        ("/events?limit=10001", "invalid_parameter", "1 to 10000"),
        ("/events?limit=", "invalid_parameter", "1 to 10000"),
        ("/events?limit=5&limit=6", "invalid_parameter", "more than once"),
    ] {
        let message = refusal(server.get(path).await.unwrap(), 400, code).await;
        assert!(message.contains(hint), "{path}: {message}");
    }
    // What gets past caches is let through.
    for path in ["/event/click?_=17", "/event/click?", "/event/click?&&channel=sse&"] {
        assert_eq!(server.get(path).await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

// --- data

#[tokio::test]
async fn what_is_not_json_is_refused_with_the_place() {
    let server = TestServer::start(Backend::Memory).await;
    for (body, hint) in [
        ("", "line 1 column 0"),
        (" \n ", "line 2"),
        ("{", "line 1 column 1"),
        ("{\n\"a\": }", "line 2 column 6"),
        ("NaN", "line 1 column 1"),
        ("-Infinity", "line 1"),
        ("nul", "line 1"),
        ("'a'", "line 1"),
        ("01", "line 1"),
        ("+1", "line 1"),
        ("1.", "line 1"),
        ("[1,]", "line 1 column 4"),
        ("1 2", "trailing characters"),
        ("{}x", "trailing characters"),
        ("// c\n1", "line 1"),
        ("\"a\nb\"", "control character"),
        ("\"\\x\"", "line 1"),
        ("\u{feff}1", "line 1 column 1"),
        ("\"a\0\"", "control character"),
    ] {
        let response = sent(post(&server, "/event/click", JSON, body)).await;
        let message = refusal(response, 400, "invalid_json").await;
        assert!(message.contains(hint), "{body:?}: {message}");
    }
    for body in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"\xc3", b"{\"\xf5\":1}"] {
        for (path, content_type) in
            [("/event/click", JSON), ("/event/click", TEXT), ("/events", JSON), ("/events", LINES)]
        {
            let message = refusal(sent(post(&server, path, content_type, body)).await, 400, "invalid_text").await;
            assert!(message.contains("UTF-8"), "{message}");
        }
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn a_byte_order_mark_is_named() {
    let server = TestServer::start(Backend::Memory).await;
    let response = sent(post(&server, "/event/click", JSON, "\u{feff}{\"a\":1}")).await;
    let message = refusal(response, 400, "invalid_json").await;
    assert!(message.contains("byte order mark"), "an editor does not show it: {message}");
}

#[tokio::test]
async fn deep_nesting_is_taken_or_refused_and_harms_nobody() {
    let server = TestServer::start(Backend::Memory).await;
    for depth in [100, 128, 1_000, 500_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (path, body) in
            [("/event/deep", deep.clone()), ("/events", format!(r#"[{{"event":"deep","data":{deep}}}]"#))]
        {
            let response = sent(post(&server, path, JSON, body)).await;
            if response.status() == StatusCode::OK {
                assert!(server.history("sse").await.pop().unwrap().data == deep);
            } else {
                assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{depth}");
                assert!(depth > 100, "that is not deep");
            }
        }
    }
}

crate::on_every_broker! {
    async fn json_is_kept_byte_for_byte_but_for_white_space_between_tokens(backend: Backend) {
        let server = TestServer::start(backend).await;
        for (sent, kept) in [
            ("{\r\n  \"b\" : [ 1 , 2.50 ],\t\"a\" : null }\n", r#"{"b":[1,2.50],"a":null}"#),
            (r#"{"z":1,"a":2,"z":3}"#, r#"{"z":1,"a":2,"z":3}"#),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
            ("-0", "-0"),
            ("1E+400", "1E+400"),
            ("0.1000", "0.1000"),
            (r#""\u00e9 \/ \" \\ é  two  spaces \n""#, r#""\u00e9 \/ \" \\ é  two  spaces \n""#),
            (r#""\ud83d\ude00 😀 \ud800""#, r#""\ud83d\ude00 😀 \ud800""#),
            ("\"\u{2028} \u{a0} \u{7f}\"", "\"\u{2028} \u{a0} \u{7f}\""),
            (r#""""#, r#""""#),
            ("[]", "[]"),
            (" true", "true"),
        ] {
            assert_eq!(stored(&server, post(&server, "/event/click", JSON, sent)).await, kept, "{sent:?}");
        }
        let mut subscriber = server.subscribe("/stream").await;
        let id = sent(post(&server, "/event/click", JSON, "{ \"a\" :\n 1.0 }")).await.json::<Value>().await.unwrap();
        let event = subscriber.next_event().await;
        assert_eq!((event.data.as_str(), event.id.as_str()), ("{\"a\":1.0}", id["id"].as_str().unwrap()));
    }

    async fn a_publish_without_data_sends_the_tutorials(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        let got = server.get("/event/view").await.unwrap();
        assert_eq!((got.status(), got.text().await.unwrap().as_str()), (StatusCode::OK, "{}"));
        for request in [
            server.http.post(server.at("/event/view")),
            // As curl -d '' and an empty HTML form send it.
            post(&server, "/event/view", "application/x-www-form-urlencoded", ""),
            server.http.post(server.at("/event/view")).header("content-length", "0"),
        ] {
            let answer: Value = sent(request).await.json().await.unwrap();
            assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
            assert!(answer["id"].is_string(), "{answer}");
        }
        let mut users = BTreeSet::new();
        for _ in 0..4 {
            let event = subscriber.next_event().await;
            assert_eq!(event.event, "view");
            users.insert(tutorial_user(&event.data));
        }
        assert_eq!(users.len(), 4, "the users are random");
    }

    async fn a_batch_is_published_whole(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        let lines = [
            r#"{"event":"text","data":"a\nb \"c\" \u00e9"}"#,
            r#"{"data": {"b": [1.0, 1.0], "b": 1e400}, "event": "json"}"#,
            "",
            "  ",
            r#"{"event":"null","data":null,"id":"17-3","time":"2022-03-08T12:30:56.760Z"}"#,
            r#" {"event":"empty","data":""} "#,
        ];
        let array = format!("[{}]", lines.iter().filter(|line| !line.trim().is_empty()).copied().collect::<Vec<_>>().join(" ,\n"));
        for (content_type, body) in [
            (LINES, lines.join("\n")),
            (LINES, lines.join("\r\n") + "\r\n"),
            ("application/jsonl; charset=utf-8", lines.join("\n") + "\n"),
            (JSON, array),
        ] {
            let answer: Value = sent(post(&server, "/events", content_type, body)).await.json().await.unwrap();
            let mut ids = Vec::new();
            for (event, data) in [
                ("text", "a\nb \"c\" é"),
                ("json", r#"{"b":[1.0,1.0],"b":1e400}"#),
                ("null", "null"),
                ("empty", ""),
            ] {
                let found = subscriber.next_event().await;
                assert_eq!((found.event.as_str(), found.data.as_str()), (event, data));
                assert_ne!(found.id, "17-3");
                ids.push(found.id);
            }
            let expected = serde_json::json!({ "first_id": ids[0], "last_id": ids[3], "count": 4 });
            assert_eq!(answer, expected);
        }
    }

    async fn a_batch_with_one_wrong_line_publishes_none_and_names_it(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        for (bad, hint) in [
            ("nonsense", "object"),
            ("[1]", "object"),
            (r#"{"event":"a"}"#, "`data`"),
            (r#"{"data":1}"#, "`event`"),
            (r#"{"event":"a","data":1,"channel":"b"}"#, "`channel`"),
            (r#"{"event":"a","data":1,"Data":1}"#, "`Data`"),
            (r#"{"event":"a","event":"b","data":1}"#, "duplicate"),
            (r#"{"event":1,"data":1}"#, "string"),
            (r#"{"event":"a\nb","data":1}"#, "control characters"),
            (r#"{"event":"a/b","data":1}"#, "1 to 128 bytes"),
            (r#"{"event":"","data":1}"#, "1 to 128 bytes"),
            (r#"{"event":"gap","data":1}"#, "reserved"),
            (r#"{"event":"a","data":NaN}"#, "column"),
            (r#"{"event":"a","data":"\ud800"}"#, "data"),
            (r#"{"event":"a","data":1"#, "column"),
            (r#"{"event":"a","data":1} {"event":"a","data":1}"#, "trailing characters"),
        ] {
            let lines = format!("{ONE_LINE}\r\n\r\n{bad}\r\n{ONE_LINE}");
            let message = refusal(sent(post(&server, "/events", LINES, lines)).await, 400, "invalid_batch").await;
            assert!(message.contains("line 3") && message.contains(hint), "{bad}: {message}");
            assert!(message.contains("no event of the batch was published"), "{message}");
        }
        for bad in [r#"{"event":"a"}"#, r#"{"event":"open","data":1}"#, "17", r#"{"event":"a","data":1,"x":1}"#] {
            let array = format!("[{ONE_LINE},{ONE_LINE},{bad}]");
            let message = refusal(sent(post(&server, "/events", JSON, array)).await, 400, "invalid_batch").await;
            assert!(message.contains("item 3"), "{bad}: {message}");
        }
        assert_eq!(server.history("sse").await, []);
        server.publish("sse", "click", "the first").await;
        assert_eq!(subscriber.next_event().await.data, "the first");
    }
}

/// Checks the tutorial's data, `"user_id: <uuid4>, timestamp: 08-Mar-2022 (12:30:56.760261)"` with its quotes, and
/// that it says the time of now, here. Returns the user.
fn tutorial_user(data: &str) -> String {
    let text = data.strip_prefix('"').and_then(|text| text.strip_suffix('"')).expect("a JSON string");
    let (user, timestamp) = text.strip_prefix("user_id: ").unwrap().split_once(", timestamp: ").unwrap();
    let parsed = uuid::Uuid::parse_str(user).expect("a UUID");
    assert_eq!((parsed.get_version_num(), parsed.hyphenated().to_string().as_str()), (4, user));
    let format = "%d-%b-%Y (%H:%M:%S%.6f)";
    let time = chrono::NaiveDateTime::parse_from_str(timestamp, format).expect("a time");
    assert_eq!(time.format(format).to_string(), timestamp);
    assert_eq!(timestamp.len(), "08-Mar-2022 (12:30:56.760261)".len());
    let age = chrono::Local::now().naive_local() - time;
    assert!(age.num_minutes().abs() < 10, "{timestamp} is not the local time");
    user.to_owned()
}

#[tokio::test]
async fn text_is_kept_as_it_is() {
    let server = TestServer::start(Backend::Memory).await;
    for text in ["", " ", "plain", "{\"not\" : \"compacted\"}", "a\r\nb", "\u{feff}é\0"] {
        for content_type in [TEXT, "text/plain;charset=utf-8", "Text/Plain; charset=\"UTF-8\""] {
            assert_eq!(stored(&server, post(&server, "/event/click", content_type, text)).await, text);
        }
    }
    let identity = post(&server, "/event/click", TEXT, "as it is").header("content-encoding", "identity");
    assert_eq!(stored(&server, identity).await, "as it is");
}

#[tokio::test]
async fn an_empty_or_misshapen_batch_is_refused() {
    let server = TestServer::start(Backend::Memory).await;
    for (content_type, body) in [(LINES, ""), (LINES, "\r\n \n"), (JSON, "[]"), (JSON, " [ ] ")] {
        let message = refusal(sent(post(&server, "/events", content_type, body)).await, 400, "empty_batch").await;
        assert!(message.contains(r#"{"event":"click","data":"x"}"#), "{message}");
    }
    for body in ["", "null", "17", "[", ONE_LINE, &format!("[{ONE_LINE}]x"), &format!("[{ONE_LINE},]")] {
        let message = refusal(sent(post(&server, "/events", JSON, body.to_owned())).await, 400, "invalid_json").await;
        assert!(message.contains("array"), "{body:?}: {message}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn valid_json_that_is_no_array_is_not_called_invalid_json() {
    let server = TestServer::start(Backend::Memory).await;
    let response = sent(post(&server, "/events", JSON, ONE_LINE)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let text = response.text().await.unwrap();
    assert!(text.contains("array") && !text.contains("not one JSON value"), "{text}");
}

// --- types and sizes

#[tokio::test]
async fn a_body_of_another_type_is_refused_with_what_would_do() {
    let server = TestServer::start(Backend::Memory).await;
    let body = "x=1";
    let typed = |path: &str, content_type: &str| post(&server, path, content_type, body);
    for (request, hint) in [
        (server.http.post(server.at("/event/click")).body(body), "no type"),
        (typed("/event/click", "application/x-www-form-urlencoded"), "HTML form"),
        (typed("/event/click", "text/html"), "text/html"),
        (typed("/event/click", "json"), "json"),
        (typed("/event/click", "multipart/form-data; boundary=x"), "multipart/form-data"),
        (typed("/event/click", "application/cloudevents+json"), "cloudevents"),
        (typed("/event/click", LINES), "/events"),
        (typed("/event/click", "text/plain; charset=latin1"), "latin1"),
        (typed("/event/click", "application/json; charset=utf-16"), "utf-16"),
        (typed("/event/click", TEXT).header("content-encoding", "gzip"), "gzip"),
        (typed("/event/click", JSON).header("content-encoding", "br"), "br"),
        (server.http.post(server.at("/events")).body(ONE_LINE), "JSON"),
        (typed("/events", TEXT), "JSON"),
        (typed("/events", "text/csv"), "text/csv"),
        (typed("/events", "application/x-ndjson; charset=latin1"), "latin1"),
        (typed("/events", LINES).header("content-encoding", "gzip"), "gzip"),
    ] {
        let message = refusal(sent(request).await, 415, "unsupported_type").await;
        assert!(message.contains(hint) && message.contains("application/json"), "{message}");
        assert!(message.contains("curl -H 'content-type: application/"), "{message}");
    }
    assert_eq!(server.history("sse").await, []);
}

/// Runs the line that a 415 tells; without curl on this machine only its text is checked.
async fn follow_the_advice(server: &TestServer, path: &str) {
    let response = sent(server.http.post(server.at(path)).body("x")).await;
    let message = refusal(response, 415, "unsupported_type").await;
    let (_, line) = message.split_once("for example: ").expect("an example");
    assert!(line.starts_with("curl ") && line.contains(&server.url) && !line.contains('\n'), "{line}");
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let ran = Command::new("sh").args(["-c", line]).env("no_proxy", "*").output().expect("sh");
    let answer = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(answer.contains("id\":\""), "{line}\ngave {answer} {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn the_curl_line_of_a_415_works() {
    let server = TestServer::start(Backend::Memory).await;
    for path in ["/event/view", "/event/a%20b", "/events"] {
        follow_the_advice(&server, path).await;
    }
    if Command::new("curl").arg("--version").output().is_ok() {
        let kept: Vec<String> = server.history("sse").await.into_iter().map(|event| event.event).collect();
        assert_eq!(kept, ["view", "a b", "click"]);
    }
}

#[tokio::test]
async fn the_curl_line_of_a_415_publishes_where_the_request_would_have() {
    let server = TestServer::start(Backend::Memory).await;
    let long = "x".repeat(100);
    for (path, channel, action) in [
        ("/event/it's?channel=quoted", "quoted", "it's"),
        ("/event/view?channel=orders", "orders", "view"),
        (&format!("/event/{long}?channel=long"), "long", long.as_str()),
        ("/events?channel=batch", "batch", "click"),
    ] {
        follow_the_advice(&server, path).await;
        if Command::new("curl").arg("--version").output().is_ok() {
            let kept: Vec<String> = server.history(channel).await.into_iter().map(|event| event.event).collect();
            assert_eq!(kept, [action], "{path}");
        }
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_413_however_it_is_framed() {
    let flags = ["--event-bytes-max", "2000", "--batch-bytes-max", "5000", "--batch-events-max", "3"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let chunked = |path: &str, content_type: &str, body: String| {
        let pieces = futures::stream::iter(body.into_bytes().chunks(100).map(<[u8]>::to_vec).collect::<Vec<_>>());
        let pieces = futures::StreamExt::map(pieces, Ok::<_, std::io::Error>);
        post(&server, path, content_type, reqwest::Body::wrap_stream(pieces))
    };
    let line = |length: usize| format!(r#"{{"event":"a","data":"{}"}}"#, "x".repeat(length));
    for (path, content_type, body, hint) in [
        ("/event/click", TEXT, "x".repeat(2001), "2000 bytes, which is the limit (--event-bytes-max)"),
        ("/event/click", JSON, format!("1{}", " ".repeat(2000)), "--event-bytes-max"),
        ("/event/click", "text/html", "x".repeat(2001), "--event-bytes-max"),
        ("/events", LINES, "x".repeat(5001), "5000 bytes, which is the limit (--batch-bytes-max)"),
        ("/events", JSON, " ".repeat(5001), "--batch-bytes-max"),
        ("/events", LINES, format!("{}\n\n{}", line(1), line(2001)), "line 3"),
        ("/events", JSON, format!("[{},{}]", line(1), line(2001)), "item 2"),
        ("/events", LINES, [ONE_LINE; 4].join("\n"), "3 events, which is the limit (--batch-events-max)"),
        ("/events", JSON, format!("[{}]", [ONE_LINE; 4].join(",")), "--batch-events-max"),
    ] {
        for request in [post(&server, path, content_type, body.clone()), chunked(path, content_type, body.clone())] {
            let message = refusal(sent(request).await, 413, "too_large").await;
            assert!(message.contains(hint), "{message}");
        }
    }
    assert_eq!(server.history("sse").await, []);
    for request in
        [post(&server, "/event/click", TEXT, "x".repeat(2000)), chunked("/event/click", TEXT, "x".repeat(2000))]
    {
        assert_eq!(stored(&server, request).await.len(), 2000);
    }
    let batch = chunked("/events", LINES, format!("{}\n{}\n{ONE_LINE}", line(2000), line(2000)));
    assert_eq!(sent(batch).await.status(), StatusCode::OK);
}

/// Sends 20 MiB and reads the answer: all at once, as `requests` does, or with an eye on the answer, as `curl` does.
async fn send_20_mib(server: &TestServer, head: &str, chunked: bool, reads_meanwhile: bool) -> RawAnswer {
    const PIECE: usize = 64 << 10;
    let framing =
        if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", PIECE * 320) };
    let mut socket = server.connect().await;
    socket.write_all(format!("{head}Host: x\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
    let piece = if chunked {
        [format!("{PIECE:x}\r\n").into_bytes(), vec![b'x'; PIECE], b"\r\n".to_vec()].concat()
    } else {
        vec![b'x'; PIECE]
    };
    for _ in 0..320 {
        let mut seen = [0];
        if reads_meanwhile && futures::FutureExt::now_or_never(socket.peek(&mut seen)).is_some() {
            break;
        }
        // A broken pipe is no error to these clients either: they go on to read what has come.
        if within("the body is taken", socket.write_all(&piece)).await.is_err() {
            break;
        }
    }
    if chunked {
        let _ = socket.write_all(b"0\r\n\r\n").await;
    }
    RawAnswer::read(&mut socket).await
}

#[tokio::test]
async fn who_sends_20_mib_can_read_why_they_are_refused() {
    let server = TestServer::start(Backend::Memory).await;
    for (head, status, code) in [
        ("POST /event/click HTTP/1.1\r\ncontent-type: text/plain\r\n", 413, "too_large"),
        ("POST /event/click HTTP/1.1\r\ncontent-type: image/png\r\n", 413, "too_large"),
        ("POST /events HTTP/1.1\r\ncontent-type: application/x-ndjson\r\n", 413, "too_large"),
        ("POST /events HTTP/1.1\r\ncontent-type: text/plain\r\n", 415, "unsupported_type"),
        ("POST /event/gap HTTP/1.1\r\ncontent-type: text/plain\r\n", 400, "invalid_action"),
        ("POST /nowhere HTTP/1.1\r\n", 404, "not_found"),
        ("PUT /stream HTTP/1.1\r\n", 405, "method_not_allowed"),
        ("POST /event/click HTTP/1.1\r\norigin: https://evil.example\r\n", 403, "foreign_origin"),
    ] {
        for (chunked, reads_meanwhile) in [(false, false), (false, true), (true, false), (true, true)] {
            send_20_mib(&server, head, chunked, reads_meanwhile).await.refusal(status, code);
        }
    }
    let body = vec![b'x'; 20 << 20];
    refusal(sent(post(&server, "/event/click", TEXT, body)).await, 413, "too_large").await;
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn who_asks_first_is_refused_before_sending() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: x\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\n";
    let large = raw(&server, format!("{head}content-length: 20000000\r\n\r\n").as_bytes()).await;
    // 100 Continue may come first; it has no body.
    assert!(large.status == 100 || large.status == 413, "{large:?}");
    let mut socket = server.connect().await;
    socket.write_all(format!("{head}content-length: 2\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(RawAnswer::read(&mut socket).await.status, 100);
    socket.write_all(b"ok").await.unwrap();
    assert_eq!(RawAnswer::read(&mut socket).await.status, 200);
}

#[tokio::test]
async fn a_body_that_nobody_read_is_not_taken_for_the_next_request() {
    let server = TestServer::start(Backend::Memory).await;
    let smuggled = "GET /event/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        "POST /nowhere HTTP/1.1\r\n",
        "PUT /stream HTTP/1.1\r\n",
        "POST /event/gap HTTP/1.1\r\n",
        "POST /event/click HTTP/1.1\r\norigin: https://evil.example\r\n",
        "POST /event/click HTTP/1.1\r\ncontent-type: text/html\r\n",
        "POST /events HTTP/1.1\r\ncontent-type: text/plain\r\n",
        "GET /events HTTP/1.1\r\n",
        "GET /nowhere HTTP/1.1\r\n",
    ] {
        for framed in [
            format!("content-length: {}\r\n\r\n{smuggled}", smuggled.len()),
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
        ] {
            let mut socket = server.connect().await;
            let next = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            socket.write_all(format!("{head}Host: x\r\n{framed}{next}").as_bytes()).await.unwrap();
            let mut answers = Vec::new();
            within("the answers", socket.read_to_end(&mut answers)).await.unwrap();
            assert!(answers.starts_with(b"HTTP/1.1 "), "{head}");
        }
    }
    assert_eq!(server.history("sse").await, []);
}

// --- methods, routes, origins

#[tokio::test]
async fn other_methods_are_405_with_those_allowed_and_do_nothing() {
    let server = TestServer::start(Backend::Memory).await;
    let mut subscriber = server.subscribe("/stream").await;
    for (path, allowed) in ROUTES {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let response = sent(server.http.request(method.clone(), server.at(path))).await;
            assert_eq!(response.headers()["allow"].to_str().unwrap(), allowed, "{method} {path}");
            if method == Method::HEAD {
                assert_eq!(response.status(), 405);
                assert_eq!(response.text().await.unwrap(), "");
            } else {
                let message = refusal(response, 405, "method_not_allowed").await;
                assert!(message.contains(method.as_str()) && message.contains(allowed), "{message}");
            }
        }
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let response = sent(server.http.head(server.at(path))).await;
        assert_eq!((response.status(), response.text().await.unwrap().as_str()), (StatusCode::OK, ""), "{path}");
    }
    assert_eq!(server.history("sse").await, []);
    server.publish("sse", "click", "the first").await;
    assert_eq!(subscriber.next_event().await.data, "the first");
    assert!(server.metric("sse_subscribers").await < 2.0, "HEAD or OPTIONS subscribed");
}

#[tokio::test]
async fn an_unknown_path_is_404_with_the_routes() {
    let server = TestServer::start(Backend::Memory).await;
    for path in
        ["/", "/event", "/Event/click", "/events/", "/stream/", "/health", "/favicon.ico", "//event/click", "/event%3F"]
    {
        for method in [Method::GET, Method::POST, Method::PUT, Method::OPTIONS] {
            let response = sent(server.http.request(method, server.at(path))).await;
            let message = refusal(response, 404, "not_found").await;
            assert!(message.contains(path), "{message}");
            for route in ["/event/{action}", "POST /events", "GET /stream", "GET /events", "/health/live", "/metrics"] {
                assert!(message.contains(route), "{route} is not in {message}");
            }
        }
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn pages_of_other_sites_may_not_publish() {
    let server = TestServer::start(Backend::Memory).await;
    let own = server.url.clone();
    let host = own.trim_start_matches("http://").to_owned();
    let ways = || {
        [
            server.http.get(server.at("/event/click")),
            post(&server, "/event/click", TEXT, "x"),
            post(&server, "/events", LINES, ONE_LINE),
        ]
    };
    let mut published = 0;
    for (headers, allowed) in [
        (&[][..], true),
        (&[("sec-fetch-site", "same-origin")], true),
        (&[("sec-fetch-site", "none")], true),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("origin", own.as_str())], true),
        (&[("origin", own.as_str()), ("sec-fetch-site", "same-origin")], true),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false),
        (&[("origin", "http://127.0.0.1:1")], false),
        (&[("origin", "http://127.0.0.1")], false),
        (&[("origin", &format!("{own}.evil.example"))], false),
        (&[("origin", &format!("http://evil.example@{host}"))], false),
        (&[("origin", &format!("https://evil.example, {own}"))], false),
    ] {
        for mut request in ways() {
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = sent(request).await;
            assert!(!cors_headers(response.headers()), "{headers:?}");
            if allowed {
                assert_eq!(response.status(), StatusCode::OK, "{headers:?}");
                published += 1;
            } else {
                let message = refusal(response, 403, "foreign_origin").await;
                assert!(message.contains("--cors-origin"), "{message}");
            }
        }
    }
    assert_eq!(server.history("sse").await.len(), published);
}

fn cors_headers(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

/// A browser's question before a publish.
async fn preflight(server: &TestServer, path: &str, origin: &str, method: &str, headers: &str) -> Response {
    let mut request = server.http.request(Method::OPTIONS, server.at(path)).header("origin", origin);
    request = request.header("access-control-request-method", method);
    if !headers.is_empty() {
        request = request.header("access-control-request-headers", headers);
    }
    sent(request).await
}

#[tokio::test]
async fn without_the_flag_there_are_no_cors_headers() {
    let server = TestServer::start(Backend::Memory).await;
    for (path, _) in ROUTES {
        let response = preflight(&server, path, "https://app.example", "POST", "content-type").await;
        assert!(!cors_headers(response.headers()), "{path}");
        refusal(response, 405, "method_not_allowed").await;
        let read = sent(server.http.get(server.at(path)).header("origin", "https://app.example")).await;
        assert!(!cors_headers(read.headers()), "{path}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn named_origins_may_read_and_publish() {
    let (one, two) = ("https://app.example", "http://localhost:3000");
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", one, "--cors-origin", two]).await;
    for origin in [one, two] {
        for (path, method, headers) in [
            ("/event/click", "POST", "content-type"),
            ("/events", "POST", "content-type"),
            ("/stream", "GET", "last-event-id,cache-control"),
            ("/events", "GET", "accept"),
        ] {
            let response = preflight(&server, path, origin, method, headers).await;
            assert!(response.status().is_success(), "{path}");
            let value = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
            assert_eq!(value("access-control-allow-origin"), origin);
            assert!(value("access-control-allow-methods").contains(&method.to_lowercase()));
            for header in headers.split(',') {
                assert!(value("access-control-allow-headers").contains(header), "{path}");
            }
            assert!(value("vary").contains("origin"));
        }
        for request in [
            server.http.get(server.at("/event/click")),
            post(&server, "/event/click", JSON, "1").header("sec-fetch-site", "cross-site"),
            post(&server, "/events", LINES, ONE_LINE),
            server.http.get(server.at("/events")),
            server.http.get(server.at("/stream")),
        ] {
            let response = sent(request.header("origin", origin)).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["access-control-allow-origin"], origin);
        }
        // A page can read what is wrong with its publish.
        let wrong = sent(post(&server, "/event/gap", JSON, "1").header("origin", origin)).await;
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()["access-control-allow-origin"]),
            (400, &origin.parse().unwrap())
        );
    }
    assert_eq!(server.history("sse").await.len(), 6);
    for origin in ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"] {
        let response = sent(post(&server, "/event/click", JSON, "1").header("origin", origin)).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        refusal(response, 403, "foreign_origin").await;
        let response = preflight(&server, "/event/click", origin, "POST", "content-type").await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        assert!(!response.status().is_success(), "{origin}");
    }
    let own = sent(server.http.get(server.at("/event/click")).header("origin", &server.url)).await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), 7);
}

#[tokio::test]
async fn a_star_lets_every_origin_read_and_publish() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", "*"]).await;
    for origin in ["https://app.example", "null", &server.url.clone()] {
        let asked = preflight(&server, "/events", origin, "POST", "content-type").await;
        assert_eq!(
            (asked.status().is_success(), &asked.headers()["access-control-allow-origin"]),
            (true, &"*".parse().unwrap())
        );
        assert!(!asked.headers().contains_key("access-control-allow-credentials"));
        let response = sent(post(&server, "/event/click", JSON, "1").header("origin", origin)).await;
        assert_eq!(
            (response.status(), &response.headers()["access-control-allow-origin"]),
            (StatusCode::OK, &"*".parse().unwrap())
        );
    }
    let hidden = sent(server.http.get(server.at("/event/click")).header("sec-fetch-site", "cross-site")).await;
    assert_eq!(hidden.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), 4);
}

#[tokio::test]
async fn a_preflight_that_fails_says_why_like_every_other_error() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", "https://app.example"]).await;
    for (origin, method, headers) in [
        ("https://evil.example", "POST", ""),
        ("https://app.example", "DELETE", ""),
        ("https://app.example", "POST", "x-unknown"),
    ] {
        let response = preflight(&server, "/event/click", origin, method, headers).await;
        assert!(response.status().is_client_error(), "{}", response.status());
        let text = response.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text:?}"));
        assert!(answer["error"]["code"].is_string() && answer["error"]["message"].is_string(), "{answer}");
    }
}

// --- what is no HTTP

#[tokio::test]
async fn what_is_hardly_http_is_refused_and_publishes_nothing() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: x\r\ncontent-type: text/plain\r\n";
    let long_header = format!("GET /event/click HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    for request in [
        &b"hello\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /event/a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /event/caf\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /event/click?channel=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /event/click HTTP/9.9\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        format!("{head}content-length: -1\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 1x\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxy").as_bytes(),
        format!("{head}content-length: 99999999999999999999999\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 18446744073709551615\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").as_bytes(),
        format!("{head}transfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").as_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n").as_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx\r\n0\r\n\r\n").as_bytes(),
        long_header.as_bytes(),
        format!("GET /event/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(60_000)).as_bytes(),
    ] {
        let mut socket = server.connect().await;
        // It may be refused before all of it is sent.
        let _ = socket.write_all(request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        let answer = RawAnswer::read(&mut socket).await;
        assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn a_body_that_breaks_off_says_so() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: x\r\ncontent-type: text/plain\r\n";
    let mut socket = server.connect().await;
    socket.write_all(format!("{head}content-length: 100\r\n\r\nshort").as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within("the end", socket.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    // The answer may not come: whoever hangs up in the middle of a request need not be told.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let chunk = raw(&server, format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes()).await;
    let message = chunk.refusal(400, "broken_body");
    assert!(!message.contains("None"), "{message}");
    assert_eq!(server.history("sse").await, []);
}

/// Numbers that look random and are the same every time (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    /// A request that was good, with something wrong in it.
    fn spoiled(&mut self) -> Vec<u8> {
        const GOOD: [&str; 7] = [
            "GET /event/click?channel=fuzz HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
            "POST /event/click?channel=fuzz HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\": 17}",
            "POST /event/a%20b HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 28\r\n\r\n{\"event\":\"click\",\"data\":\"x\"}",
            "GET /events?last_event_id=5-5&limit=3 HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n",
            "GET /stream?event=a&event=b HTTP/1.1\r\nHost: x\r\nLast-Event-ID: @5-5\r\n\r\n",
            "OPTIONS /event/click HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n",
        ];
        const NASTY: [&[u8]; 12] = [
            b"\r\n",
            b"\0",
            b"%",
            b"%00",
            b"\xff\xfe",
            b"?",
            b"&channel=",
            b"99999999999",
            b": ",
            b"\"",
            b"chunked",
            b"\x7f",
        ];
        let mut bytes = GOOD[self.below(GOOD.len())].as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1));
            match self.below(5) {
                0 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => drop(bytes.splice(at..at, NASTY[self.below(NASTY.len())].iter().copied())),
                2 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let copied = bytes[at..].to_vec();
                    bytes.extend(copied);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'G');
            }
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_server_fail() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", "https://app.example"]).await;
    let mut dice = Dice(0x5353_4521);
    let requests: Vec<Vec<u8>> = (0..600).map(|_| dice.spoiled()).collect();
    let mut statuses = BTreeSet::new();
    for some in requests.chunks(30) {
        let answers = all_at_once(some, |request| {
            let server = &server;
            async move {
                let mut socket = server.connect().await;
                let _ = socket.write_all(request).await;
                // Streams and unfinished requests end when the client does.
                let _ = socket.shutdown().await;
                let mut answer = Vec::new();
                let _ = within("the end of the connection", socket.read_to_end(&mut answer)).await;
                (request, String::from_utf8_lossy(&answer).into_owned())
            }
        })
        .await;
        for (request, answer) in answers {
            let request = String::from_utf8_lossy(request).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{request:?} got {answer:?}");
            assert!(!answer.contains("HTTP/1.1 5"), "{request:?} got {answer:?}");
            statuses.extend(answer.get(9..12).map(ToOwned::to_owned));
        }
    }
    for status in ["200", "400", "404", "405", "415"] {
        assert!(statuses.contains(status), "no request got {status}, only {statuses:?}: the dice are too tame");
    }
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "still here").await;
    assert_eq!(subscriber.next_event().await.data, "still here");
    assert!(!server.log().contains("panicked"));
}
