//! `POST /events?mode=stream`: lines are stored and delivered while their body is open, and its
//! response has what is stored, whatever ends it.

mod endings;
mod upload;

use reqwest::StatusCode;

use self::upload::{Upload, line};
use crate::common::{Backend, TestServer, refusal, until};

async fn data_of(server: &TestServer, channel: &str) -> Vec<String> {
    let history = server.history(channel).await;
    history.into_iter().map(|event| event.data).collect()
}

async fn wait_for_data(server: &TestServer, channel: &str, expected: &[&str]) {
    until("the lines are stored", async || {
        (data_of(server, channel).await == expected).then_some(())
    })
    .await;
}

crate::on_every_broker! {
    async fn lines_are_delivered_while_the_body_is_open(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream?channel=run").await;
        let mut upload = Upload::http1(&server, "channel=run", "").await;
        upload.send_event("1").await;
        assert_eq!(subscriber.next_event().await.data, "1");
        let sent = format!("{}\n\n\r\n{}\n{}", line("2"), line("3"), &line("4")[..5]);
        upload.send(&sent).await;
        assert_eq!(subscriber.next_event().await.data, "2");
        assert_eq!(subscriber.next_event().await.data, "3");
        assert!((server.metric("sse_streaming_publishes").await - 1.0).abs() < 0.1);
        // The last line of a complete body needs no line feed.
        upload.send(&line("4")[5..]).await;
        let outcome = upload.finish().await;
        let last = subscriber.next_event().await;
        assert_eq!((outcome.status, outcome.count(), outcome.end_word()), (200, 4, None));
        assert_eq!((last.data.as_str(), outcome.body["last_id"].as_str()), ("4", Some(&*last.id)));
        assert!(server.metric("sse_streaming_publishes").await.abs() < 0.1);
    }

    async fn lines_keep_their_keys_and_a_wrong_line_ends_the_publish(backend: Backend) {
        let server = TestServer::start(backend).await;
        let keyed = |key: &str| format!(r#"{{"event":"a","data":"{key}","key":"{key}"}}"#) + "\n";
        for _ in 0..2 {
            let mut upload = Upload::http1(&server, "channel=keys", "").await;
            upload.send(&keyed("1")).await;
            upload.send(&(keyed("2") + &keyed("3"))).await;
            let outcome = upload.finish().await;
            assert_eq!((outcome.status, outcome.count()), (200, 3));
        }
        assert_eq!(data_of(&server, "keys").await, ["1", "2", "3"]);
        let named = r#"{"event":"a","data":1,"channel":"b"}"#;
        for (nth, wrong) in ["nonsense", r#"{"event":"a"}"#, named].into_iter().enumerate() {
            let channel = format!("wrong{nth}");
            let mut upload = Upload::http1(&server, &format!("channel={channel}"), "").await;
            upload.send(&format!("{}\n\n{wrong}\n{}\n", line("1"), line("2"))).await;
            let outcome = upload.outcome().await;
            assert_eq!((outcome.status, outcome.count()), (400, 1), "{outcome:?}");
            assert_eq!(outcome.end_word(), Some("invalid_batch"));
            let message = outcome.body["error"]["message"].as_str().unwrap();
            assert!(message.starts_with("line 3: "), "{message}");
            assert_eq!(data_of(&server, &channel).await, ["1"]);
        }
    }

    async fn a_body_that_breaks_off_stores_its_complete_lines(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut upload = Upload::http1(&server, "channel=broken", "").await;
        upload.send(&format!("{}\n{}\n{}", line("1"), line("2"), line("3"))).await;
        // The connection breaks while the lines may still be on their way.
        drop(upload);
        wait_for_data(&server, "broken", &["1", "2"]).await;
        server.publish("broken", "a", "later").await;
        assert_eq!(data_of(&server, "broken").await, ["1", "2", "later"]);
        until("the publish is over", async || {
            (server.metric("sse_streaming_publishes").await.abs() < 0.1).then_some(())
        })
        .await;
    }

    async fn a_publish_belongs_to_one_incarnation_and_closes_it_at_its_proper_end(backend: Backend) {
        let server = TestServer::start(backend).await;
        let channel = async |name: &str| {
            let response = server.get(&format!("/channels/{name}")).await.unwrap();
            response.json::<serde_json::Value>().await.unwrap()
        };
        // A body that breaks off does not close the channel.
        let mut broken = Upload::http1(&server, "channel=a&close=completed", "").await;
        broken.send_event("1").await;
        wait_for_data(&server, "a", &["1"]).await;
        drop(broken);
        until("the publish is over", async || {
            (server.metric("sse_streaming_publishes").await.abs() < 0.1).then_some(())
        })
        .await;
        assert_eq!(channel("a").await["state"], "open");
        // One that ends does.
        let mut upload = Upload::http1(&server, "channel=a&close=completed", "").await;
        upload.send(&line("2")).await;
        let outcome = upload.finish().await;
        assert_eq!((outcome.status, outcome.count()), (200, 1), "{outcome:?}");
        assert_eq!(channel("a").await["state"], "closed");
        assert_eq!(outcome.body["end"], channel("a").await["newest"]);
        // A channel that was deleted meanwhile is not created again.
        let mut upload = Upload::http1(&server, "channel=b&ttl=1h", "").await;
        upload.send_event("1").await;
        wait_for_data(&server, "b", &["1"]).await;
        let path = server.at("/channels/b");
        assert!(server.http.delete(path).send().await.unwrap().status().is_success());
        upload.send_event("2").await;
        let outcome = upload.outcome().await;
        assert_eq!((outcome.status, outcome.count()), (410, 1), "{outcome:?}");
        assert_eq!(outcome.end_word(), Some("channel_deleted"));
        assert_eq!(server.get("/channels/b").await.unwrap().status(), 404);
        // With a condition nothing else may come between the lines.
        let mut upload = Upload::http1(&server, "channel=c", "If-None-Match: *\r\n").await;
        for data in ["1", "2"] {
            upload.send_event(data).await;
        }
        wait_for_data(&server, "c", &["1", "2"]).await;
        server.publish("c", "a", "other").await;
        upload.send_event("3").await;
        let outcome = upload.outcome().await;
        assert_eq!((outcome.status, outcome.count()), (412, 2), "{outcome:?}");
        assert_eq!(data_of(&server, "c").await, ["1", "2", "other"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_stored_line_by_line_is_rejected() {
    let server = TestServer::start(Backend::Memory).await;
    let send = async |query: &str, kind: &str, key: Option<&str>| {
        let mut request = server.http.post(server.at(&format!("/events?{query}")));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.header("content-type", kind).body(line("1"));
        request.send().await.unwrap()
    };
    let (lines, json) = (upload::LINES, "application/json");
    let (bad, unsupported) = (StatusCode::BAD_REQUEST, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let response = send("mode=stream", lines, Some("k")).await;
    refusal(response, bad, "invalid_idempotency_key").await;
    let response = send("mode=stream", json, None).await;
    refusal(response, unsupported, "unsupported_media_type").await;
    refusal(
        send("mode=lines", lines, None).await,
        bad,
        "invalid_parameter",
    )
    .await;
    assert_eq!(data_of(&server, "sse").await, [""; 0]);
    // A body may be longer than a batch, and have no line at all.
    let flags = ["--batch-bytes-max", "64KiB", "--event-bytes-max", "64KiB"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let response = server
        .http
        .post(server.at("/events?mode=stream&channel=long"))
        .header("content-type", lines)
        .header("expect", "100-continue")
        .body(vec![line("1"); 5000].join("\n"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(data_of(&server, "long").await.len(), 5000);
    let outcome = Upload::http1(&server, "channel=none", "")
        .await
        .finish()
        .await;
    assert_eq!((outcome.status, outcome.count()), (200, 0));
    assert!(outcome.body["last_id"].is_null());
    let mut upload = Upload::http1(&server, "channel=none", "").await;
    upload.send(&"x".repeat(65 << 10)).await;
    let outcome = upload.outcome().await;
    assert_eq!(
        (outcome.status, outcome.end_word()),
        (413, Some("too_large"))
    );
}
