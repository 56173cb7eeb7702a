//! `--stream-life`: a stream ends between two blocks when its time is over, and its client resumes.

use crate::common::{Backend, RawConnection, TestServer, until};

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_end_and_are_counted() {
    let server = TestServer::start_with(Backend::Memory, &["--stream-life", "500ms"]).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        streams.push(RawConnection::send(&server, request).await);
    }
    for mut stream in streams {
        let head = stream.head().await;
        let body = stream.body_to_the_close(&head).await;
        assert!(
            body.ends_with("\n\n") && body.starts_with("retry: 3000\n"),
            "{body:?}"
        );
    }
    until("all are counted", async || {
        (server.closed_streams("life").await == 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_stream_ends_at_the_end_of_a_block_and_its_client_loses_nothing() {
    let server = TestServer::start_with(Backend::Memory, &["--stream-life", "300ms"]).await;
    let publishing = async {
        for number in 0..300 {
            server.publish("sse", "number", &number.to_string()).await;
        }
    };
    let reading = async {
        let (mut numbers, mut streams, mut last_id) = (Vec::new(), 0, None::<String>);
        while numbers.len() < 300 {
            let path = if last_id.is_none() {
                "/stream?from=oldest"
            } else {
                "/stream"
            };
            let mut stream = server.subscribe_after(path, last_id.as_deref()).await;
            streams += 1;
            while let Some(block) = stream.try_next_block().await {
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                numbers.extend(data.map(|number| number.parse::<usize>().unwrap()));
                if numbers.len() == 300 {
                    break;
                }
            }
            last_id = Some(stream.last_event_id.clone());
        }
        (numbers, streams)
    };
    let ((), (numbers, streams)) = futures::future::join(publishing, reading).await;
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    assert!(streams >= 1);
    until("a stream ended", async || {
        (server.closed_streams("life").await >= streams - 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_filters_all_events_reports_its_position_at_the_end() {
    let server = TestServer::start_with(Backend::Memory, &["--stream-life", "1s"]).await;
    let mut stream = server.subscribe("/stream?event=other").await;
    let id = server.publish("sse", "click", "x").await;
    while stream.try_next_block().await.is_some() {}
    assert_eq!(stream.last_event_id, id);
}
