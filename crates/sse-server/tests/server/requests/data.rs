//! Data of events: JSON and text are stored unchanged, and a batch is published completely or not
//! at all.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;

use super::{JSON, LINES, ONE_LINE, TEXT, post, refusal, sent, stored};
use crate::common::{Backend, TestServer};

#[tokio::test]
async fn invalid_json_is_rejected_with_its_position() {
    let server = TestServer::start(Backend::Memory).await;
    for (body, hint) in [
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
    for body in [
        &b"\"\xff\""[..],
        b"\"\xed\xa0\x80\"",
        b"\xc3",
        b"{\"\xf5\":1}",
    ] {
        for (path, content_type) in [
            ("/event/click", JSON),
            ("/event/click", TEXT),
            ("/events", JSON),
            ("/events", LINES),
        ] {
            let message = refusal(
                sent(post(&server, path, content_type, body)).await,
                400,
                "invalid_utf8",
            )
            .await;
            assert!(message.contains("UTF-8"), "{message}");
        }
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn the_message_names_a_byte_order_mark() {
    let server = TestServer::start(Backend::Memory).await;
    let response = sent(post(&server, "/event/click", JSON, "\u{feff}{\"a\":1}")).await;
    let message = refusal(response, 400, "invalid_json").await;
    assert!(
        message.contains("byte order mark"),
        "an editor does not show it: {message}"
    );
}

#[tokio::test]
async fn json_that_is_nested_deeper_than_128_levels_is_rejected() {
    let server = TestServer::start(Backend::Memory).await;
    for depth in [100, 128, 129, 1_000, 100_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let line = format!(r#"{{"event":"deep","data":{deep}}}"#);
            for (path, content_type, body, code) in [
                ("/event/deep", JSON, deep.clone(), "invalid_json"),
                ("/events", JSON, format!("[{line}]"), "invalid_batch"),
                ("/events", LINES, line.clone(), "invalid_batch"),
            ] {
                let response = sent(post(&server, path, content_type, body)).await;
                if depth <= 128 {
                    assert_eq!(response.status(), StatusCode::OK, "{depth}");
                    assert!(server.history("sse").await.pop().unwrap().data == deep);
                } else {
                    let message = refusal(response, 400, code).await;
                    assert!(message.contains("128"), "{depth}: {message}");
                }
            }
        }
    }
}

#[tokio::test]
async fn json_and_lines_have_several_types() {
    let server = TestServer::start(Backend::Memory).await;
    let event = r#"{"specversion":"1.0","id":"A-1","source":"/x","type":"t","data":{"a":1.0}}"#;
    for content_type in [
        "application/cloudevents+json; charset=utf-8",
        "application/vnd.example.v1+json",
        "text/json",
    ] {
        let request = post(&server, "/event/click", content_type, event);
        assert_eq!(stored(&server, request).await, event, "{content_type}");
        let batch = post(&server, "/events", content_type, format!("[{ONE_LINE}]"));
        assert_eq!(sent(batch).await.status(), StatusCode::OK, "{content_type}");
    }
    for content_type in ["application/jsonl", "application/stream+json"] {
        let lines = post(&server, "/events", content_type, [ONE_LINE; 2].join("\n"));
        let answer: Value = sent(lines).await.json().await.unwrap();
        assert_eq!(answer["count"], 2, "{content_type}");
    }
    let kept = server.history("sse").await.len();
    for content_type in [
        "application/cloudevents+json",
        "text/json",
        "application/jsonl",
        "application/stream+json",
    ] {
        for (path, body) in [("/event/click", "1"), ("/events", ONE_LINE)] {
            let foreign = post(&server, path, content_type, body);
            let response = sent(foreign.header("origin", "https://evil.example")).await;
            refusal(response, 403, "origin_not_allowed").await;
        }
    }
    assert_eq!(server.history("sse").await.len(), kept);
}

crate::on_every_broker! {
    async fn json_is_kept_byte_for_byte_except_white_space_between_tokens(backend: Backend) {
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

    async fn only_a_get_sends_the_data_of_the_tutorial(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        let mut users = BTreeSet::new();
        for _ in 0..4 {
            let got = server.get("/event/view").await.unwrap();
            assert_eq!((got.status(), got.text().await.unwrap().as_str()), (StatusCode::OK, "{}"));
            let event = subscriber.next_event().await;
            assert_eq!(event.event, "view");
            users.insert(tutorial_user(&event.data));
        }
        assert_eq!(users.len(), 4, "the users are random");
    }

    async fn a_post_without_a_body_publishes_empty_data(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        for request in [
            // As `requests.post(url, json=None)` sends it.
            server.http.post(server.at("/event/view")),
            // `curl -d ''` and an empty HTML form send this content type.
            post(&server, "/event/view", "application/x-www-form-urlencoded", ""),
            post(&server, "/event/view", TEXT, ""),
            // Some clients send their default type with every request.
            post(&server, "/event/view", JSON, ""),
            post(&server, "/event/view", LINES, ""),
            post(&server, "/event/view", "application/xml", ""),
            server.http.post(server.at("/event/view")).header("content-length", "0"),
        ] {
            assert_eq!(stored(&server, request).await, "");
            let event = subscriber.next_event().await;
            assert_eq!((event.event.as_str(), event.data.as_str()), ("view", ""));
        }
    }

    async fn a_batch_is_published_completely(backend: Backend) {
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

    async fn lines_that_readers_wrote_down_can_be_published(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish("sse", "click", "x").await;
        let request = server.http.get(server.at("/events")).header("accept", LINES);
        let history = sent(request).await.text().await.unwrap();
        let envelope = r#"{"id":"5-0","channel":"orders","event":"click","data":"x","time":"2026-11-24T12:06:36.816Z"}"#;
        let listened = r#"{"id":"1795614681255-0","event":"click","data":"x"}"#;
        let lines = [history.trim(), envelope, listened].join("\n");
        assert_eq!(sent(post(&server, "/events", LINES, lines)).await.status(), StatusCode::OK);
        let kept = server.history("sse").await;
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|event| event.data == "x" && event.id != "1795614681255-0"), "{kept:?}");
    }

    async fn a_batch_with_an_invalid_line_publishes_no_event_and_names_the_line(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        for (bad, hint) in [
            ("nonsense", "object"),
            ("[1]", "object"),
            (r#"{"event":"a"}"#, "`data`"),
            (r#"{"data":1}"#, "`event`"),
            (r#"{"event":"a","data":1,"channel":"b c"}"#, "channel"),
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
            (r#"{"event":"a","data":1,"id":"my-42"}"#, "use `key`"),
            (r#"{"event":"a","data":1,"id":42}"#, "into `data`"),
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

/// Checks the tutorial's data, `"user_id: <uuid4>, timestamp: 08-Mar-2022 (12:30:56.760261)"` with
/// its quotes, and that its timestamp is the current local time. Returns the user.
fn tutorial_user(data: &str) -> String {
    let text = data
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .expect("a JSON string");
    let (user, timestamp) = text
        .strip_prefix("user_id: ")
        .unwrap()
        .split_once(", timestamp: ")
        .unwrap();
    let parsed = uuid::Uuid::parse_str(user).expect("a UUID");
    assert_eq!(
        (
            parsed.get_version_num(),
            parsed.hyphenated().to_string().as_str()
        ),
        (4, user)
    );
    let format = "%d-%b-%Y (%H:%M:%S%.6f)";
    let time = chrono::NaiveDateTime::parse_from_str(timestamp, format).expect("a time");
    assert_eq!(time.format(format).to_string(), timestamp);
    assert_eq!(timestamp.len(), "08-Mar-2022 (12:30:56.760261)".len());
    let age = chrono::Local::now().naive_local() - time;
    assert!(
        age.num_minutes().abs() < 10,
        "{timestamp} is not the local time"
    );
    user.to_owned()
}

#[tokio::test]
async fn text_is_stored_unchanged() {
    let server = TestServer::start(Backend::Memory).await;
    for text in [
        "",
        " ",
        "plain",
        "{\"not\" : \"compacted\"}",
        "a\r\nb",
        "\u{feff}é\0",
    ] {
        for content_type in [
            TEXT,
            "text/plain;charset=utf-8",
            "Text/Plain; charset=\"UTF-8\"",
        ] {
            assert_eq!(
                stored(&server, post(&server, "/event/click", content_type, text)).await,
                text
            );
        }
    }
    let identity =
        post(&server, "/event/click", TEXT, "as it is").header("content-encoding", "identity");
    assert_eq!(stored(&server, identity).await, "as it is");
}

#[tokio::test]
async fn an_empty_or_malformed_batch_is_rejected() {
    let server = TestServer::start(Backend::Memory).await;
    for (content_type, body) in [
        (LINES, ""),
        (LINES, "\r\n \n"),
        (JSON, "[]"),
        (JSON, " [ ] "),
    ] {
        let message = refusal(
            sent(post(&server, "/events", content_type, body)).await,
            400,
            "empty_batch",
        )
        .await;
        assert!(
            message.contains(r#"{"event":"click","data":"x"}"#),
            "{message}"
        );
    }
    for body in [
        "",
        "null",
        "17",
        "[",
        ONE_LINE,
        &format!("[{ONE_LINE}]x"),
        &format!("[{ONE_LINE},]"),
    ] {
        let message = refusal(
            sent(post(&server, "/events", JSON, body.to_owned())).await,
            400,
            "invalid_json",
        )
        .await;
        assert!(message.contains("array"), "{body:?}: {message}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn valid_json_that_is_not_an_array_is_not_reported_as_invalid_json() {
    let server = TestServer::start(Backend::Memory).await;
    let response = sent(post(&server, "/events", JSON, ONE_LINE)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let text = response.text().await.unwrap();
    assert!(
        text.contains("array") && !text.contains("not one JSON value"),
        "{text}"
    );
}

#[tokio::test]
async fn an_error_message_is_short_even_if_the_input_is_long() {
    let server = TestServer::start(Backend::Memory).await;
    let long = "k".repeat(1 << 20);
    for (line, code) in [
        (
            format!(r#"{{"event":"click","data":1,"{long}":1}}"#),
            "invalid_batch",
        ),
        (
            format!(r#"{{"{long}":1,"event":"click","data":1}}"#),
            "invalid_batch",
        ),
        (format!(r#"{{"event":"{long}","data":1}}"#), "invalid_batch"),
        (
            format!(r#"{{"event":["{long}"],"data":1}}"#),
            "invalid_batch",
        ),
        (
            format!(r#"{{"event":"click","data":{long}}}"#),
            "invalid_batch",
        ),
        (long.clone(), "invalid_batch"),
    ] {
        for (content_type, body) in [(LINES, line.clone()), (JSON, format!("[{line}]"))] {
            let response = sent(post(&server, "/events", content_type, body)).await;
            let message = match content_type {
                JSON if line.contains(&format!(":{long}")) || line == long => {
                    refusal(response, 400, "invalid_json").await
                }
                _ => refusal(response, 400, code).await,
            };
            assert!(
                message.len() < 400,
                "{} characters: {}",
                message.len(),
                &message[..400]
            );
        }
    }
    assert_eq!(server.history("sse").await, []);
}
