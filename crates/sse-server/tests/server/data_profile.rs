//! `profile=data`: only data, `[DONE]` for a completed channel, and statuses in place of events.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::common::{Backend, Subscriber, TestServer, refusal, until};

async fn close(server: &TestServer, channel: &str, reason: &str) {
    let path = format!("/channels/{channel}/close");
    let request = server.http.request(Method::POST, server.at(&path));
    let response = request.json(&json!({ "reason": reason })).send().await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

/// Opens a stream, whose opening is only a position.
async fn subscribe(server: &TestServer, path: &str) -> Subscriber {
    let response = server.get(path).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut subscriber = Subscriber::new(response);
    let opening = subscriber.next_block().await;
    assert!(
        opening.starts_with("id: ") && opening.ends_with("\n:"),
        "{opening}"
    );
    subscriber
}

/// Opens a stream that ends, and returns its text.
async fn whole_stream(server: &TestServer, path: &str) -> String {
    let response = server.get(path).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

/// The status of a stream that resumes.
async fn resumed(server: &TestServer, path: &str, id: &str) -> StatusCode {
    let request = server.http.get(server.at(path)).header("last-event-id", id);
    request.send().await.unwrap().status()
}

crate::on_every_broker! {
    async fn a_stream_of_data_has_nothing_else_and_ends_as_its_channel(backend: Backend) {
        let server = TestServer::start(backend).await;
        for (reason, done) in [("completed", "\ndata: [DONE]"), ("cancelled", "")] {
            let channel = format!("run.{reason}");
            let path = format!("/stream?profile=data&channel={channel}");
            let mut live = subscribe(&server, &path).await;
            let first = server.publish(&channel, "part", r#"{"n":1}"#).await;
            assert_eq!(live.next_block().await, format!("id: {first}\ndata: {{\"n\":1}}"));
            let second = server.publish(&channel, "part", "2").await;
            assert_eq!(live.next_block().await, format!("id: {second}\ndata: 2"));
            close(&server, &channel, reason).await;
            let last = live.next_block().await;
            let end = last.lines().next().unwrap().strip_prefix("id: ").unwrap().to_owned();
            assert_eq!(last, format!("id: {end}{done}"));
            live.ended().await;
            assert_eq!(resumed(&server, &path, &end).await, StatusCode::NO_CONTENT);
            // A late reader gets the same.
            let late = whole_stream(&server, &format!("{path}&from=oldest")).await;
            let expected = format!(
                "id: {first}\ndata: {{\"n\":1}}\n\nid: {second}\ndata: 2\n\nid: {end}{done}\n\n"
            );
            assert!(late.ends_with(&expected), "{late:?}");
            assert!(!late.contains("retry:") && !late.contains("event:"), "{late:?}");
            let open = server.get(&format!("{path}&from=oldest&if=open")).await.unwrap();
            assert_eq!(open.status(), StatusCode::NO_CONTENT);
        }
        let deleted = server.http.delete(server.at("/channels/run.completed")).send().await;
        assert!(deleted.unwrap().status().is_success());
        let open = server.get("/stream?profile=data&channel=run.completed&if=open").await;
        assert_eq!(open.unwrap().status(), StatusCode::NO_CONTENT);
    }

    async fn a_gap_is_a_410(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish("a", "part", "1").await;
        for id in ["5-0", "nonsense"] {
            let request = server.http.get(server.at("/stream?profile=data&channel=a"));
            let response = request.header("last-event-id", id).send().await.unwrap();
            refusal(response, StatusCode::GONE, "history_gap").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_stream_reports_inside_of_a_200_is_a_status() {
    let flags = ["--drain", "1h", "--limit-streams", "1"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let path = "/stream?profile=data&channel=a";
    for query in ["&channel=b", "&envelope=json", "&notices=1"] {
        let response = server.get(&format!("{path}{query}")).await.unwrap();
        refusal(response, StatusCode::BAD_REQUEST, "invalid_parameter").await;
    }
    let _open = subscribe(&server, path).await;
    let response = server.get(path).await.unwrap();
    refusal(response, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    server.signal("TERM");
    until("the server drains", async || {
        let response = server.get("/health/ready").await.ok()?;
        (response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let response = server.get(path).await.unwrap();
    refusal(response, StatusCode::SERVICE_UNAVAILABLE, "draining").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_respond_is_a_503() {
    let mut server = TestServer::start(Backend::Redis).await;
    let redis = server.redis.take();
    drop(redis);
    let response = server.get("/stream?profile=data&channel=a").await.unwrap();
    refusal(
        response,
        StatusCode::SERVICE_UNAVAILABLE,
        "broker_unavailable",
    )
    .await;
}
