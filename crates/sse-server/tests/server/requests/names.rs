//! Names of channels and actions, and queries: invalid ones are rejected, and all others arrive
//! unchanged.

use reqwest::StatusCode;

use super::{LINES, ONE_LINE, TEXT, post, refusal, sent};
use crate::common::{Backend, TestServer};

#[tokio::test]
async fn an_invalid_channel_is_rejected_on_every_route() {
    let server = TestServer::start(Backend::Memory).await;
    let too_long = "x".repeat(65);
    for channel in [
        "",
        "a%20b",
        "a+b",
        "a/b",
        "a%2Fb",
        "%C3%A9",
        "a%00",
        "a%0A",
        "a,b",
        "a=b",
        "%7Bsse%7D",
        "*",
        &too_long,
    ] {
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
async fn an_invalid_action_is_rejected_and_valid_ones_arrive_unchanged() {
    let server = TestServer::start(Backend::Memory).await;
    let (too_long, too_long_in_bytes) = ("x".repeat(129), "é".repeat(65));
    let wrong = [
        "",
        "a%2Fb",
        "a/b",
        "a/",
        "a%0Ab",
        "a%0Did:%201",
        "%00",
        "a%7F",
        "%C2%85",
        &too_long,
        &too_long_in_bytes,
    ];
    let reserved = ["gap", "open", "error", "end", "notice", "g%61p"];
    for (actions, hint) in [(&wrong[..], "1 to 128 bytes"), (&reserved[..], "reserved")] {
        for action in actions {
            let path = format!("/event/{action}");
            for request in [
                server.http.get(server.at(&path)),
                post(&server, &path, TEXT, "x"),
            ] {
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
    let kept: Vec<String> = server
        .history("sse")
        .await
        .into_iter()
        .map(|event| event.event)
        .collect();
    assert_eq!(kept, good.map(|(_, event)| event.to_owned()));
}

#[tokio::test]
async fn invalid_percent_encoding_is_rejected_and_never_replaced() {
    let server = TestServer::start(Backend::Memory).await;
    for bad in [
        "%",
        "%4",
        "%zz",
        "%+1",
        "a%FF",
        "%C3",
        "%C3%28",
        "%ED%A0%80",
        "%F4%90%80%80",
        "%C0%AF",
    ] {
        for path in [
            format!("/event/{bad}"),
            format!("/event/click?channel={bad}"),
            format!("/event/click?{bad}=1"),
            format!("/stream?event={bad}"),
            format!("/events?last_event_id={bad}"),
        ] {
            let message = refusal(server.get(&path).await.unwrap(), 400, "invalid_encoding").await;
            assert!(
                message.contains("UTF-8") && message.contains("%25"),
                "{path}: {message}"
            );
        }
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn a_percent_encoded_route_is_the_same_route_or_not_found() {
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
async fn an_invalid_query_is_rejected() {
    let server = TestServer::start(Backend::Memory).await;
    let many = (0..65)
        .map(|number| format!("event=e{number}"))
        .collect::<Vec<_>>()
        .join("&");
    for (path, code, hint) in [
        ("/event/click?chanel=a", "unknown_parameter", "channel"),
        ("/event/click?event=a", "unknown_parameter", "channel"),
        (
            "/event/click?channel=a&channel=a",
            "invalid_parameter",
            "more than once",
        ),
        ("/stream?limit=5", "unknown_parameter", "last_event_id"),
        ("/stream?Event=a", "unknown_parameter", "event"),
        (
            "/stream?last_event_id=1-0&last_event_id=1-0",
            "invalid_parameter",
            "more than once",
        ),
        ("/stream?event=", "invalid_action", "1 to 128 bytes"),
        ("/stream?event=a%2Fb", "invalid_action", "1 to 128 bytes"),
        (&format!("/stream?{many}"), "invalid_parameter", "64"),
        ("/events?envelope=json", "unknown_parameter", "limit"),
        ("/events?event=a%2Fb", "invalid_action", "1 to 128 bytes"),
        (&format!("/events?{many}"), "invalid_parameter", "64"),
        ("/events?limit=0", "invalid_parameter", "1 to 10000"),
        ("/events?limit=-1", "invalid_parameter", "1 to 10000"),
        ("/events?limit=10001", "invalid_parameter", "1 to 10000"),
        ("/events?limit=", "invalid_parameter", "1 to 10000"),
        (
            "/events?limit=5&limit=6",
            "invalid_parameter",
            "more than once",
        ),
    ] {
        let message = refusal(server.get(path).await.unwrap(), 400, code).await;
        assert!(message.contains(hint), "{path}: {message}");
    }
    // Parameters that bypass caches, and empty ones, are accepted.
    for path in [
        "/event/click?_=17",
        "/event/click?",
        "/event/click?&&channel=sse&",
    ] {
        assert_eq!(
            server.get(path).await.unwrap().status(),
            StatusCode::OK,
            "{path}"
        );
    }
}
