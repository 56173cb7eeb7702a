//! The bytes of a stream on the wire, and the events that it carries.

use reqwest::{StatusCode, Version};

use crate::common::{Backend, TestServer, skip, until, within};

crate::on_every_broker! {
    async fn the_head_and_the_first_block_are_sent_immediately(backend: Backend) {
        let server = TestServer::start_with(backend, &["--retry", "1234ms"]).await;
        let response = server.get("/stream").await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.version(), Version::HTTP_11);
        assert!(header("content-type").unwrap().starts_with("text/event-stream"));
        assert_eq!(header("transfer-encoding").as_deref(), Some("chunked"));
        assert_eq!(header("cache-control").as_deref(), Some("no-store, no-transform"));
        assert_eq!(header("x-accel-buffering").as_deref(), Some("no"));
        assert_eq!(header("access-control-allow-origin"), None);
        let mut subscriber = crate::common::Subscriber::new(response);
        let opening = subscriber.next_block().await;
        let lines: Vec<&str> = opening.lines().collect();
        assert_eq!(lines[0], "retry: 1234");
        assert!(lines[1].starts_with("id: "), "{opening}");
        assert!(lines[2..].iter().all(|line| line.starts_with(':')), "{opening}");
    }

    async fn every_subscriber_gets_every_event_in_order(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscribers = Vec::new();
        for _ in 0..20 {
            subscribers.push(server.subscribe("/stream").await);
        }
        let mut ids = Vec::new();
        for number in 0..100 {
            ids.push(server.publish("sse", "click", &number.to_string()).await);
        }
        for subscriber in &mut subscribers {
            for (number, id) in ids.iter().enumerate() {
                let event = subscriber.next_event().await;
                assert_eq!((event.id.as_str(), event.event.as_str()), (id.as_str(), "click"));
                assert_eq!(event.data, number.to_string());
            }
        }
    }

    async fn a_new_subscriber_does_not_get_earlier_events(backend: Backend) {
        let server = TestServer::start(backend).await;
        for round in 0..20 {
            server.publish("sse", "click", "before").await;
            let mut subscriber = server.subscribe("/stream").await;
            server.publish("sse", "click", &format!("after {round}")).await;
            assert_eq!(subscriber.next_event().await.data, format!("after {round}"));
        }
    }

    async fn channels_are_separate(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut orders = server.subscribe("/stream?channel=orders").await;
        let mut users = server.subscribe("/stream?channel=users").await;
        server.publish("orders", "new", "1").await;
        server.publish("users", "new", "2").await;
        server.publish("orders", "new", "3").await;
        assert_eq!(orders.take_data(2).await, ["1", "3"]);
        assert_eq!(users.take_data(1).await, ["2"]);
    }

    async fn a_type_filter_passes_only_its_types(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut some = server.subscribe("/stream?event=view&event=cl%C3%B4se").await;
        for kind in ["click", "view", "click", "cl%C3%B4se", "view"] {
            server.publish("sse", kind, kind).await;
        }
        assert_eq!(some.take_data(3).await, ["view", "cl%C3%B4se", "view"]);
    }

    async fn a_heartbeat_carries_the_position_that_the_filter_has_reached(backend: Backend) {
        let server = TestServer::start_with(backend, &["--heartbeat", "50ms"]).await;
        let mut views = server.subscribe("/stream?event=view").await;
        assert_eq!(views.next_block().await, ":");
        let skipped = server.publish("sse", "click", "x").await;
        while views.last_event_id != skipped {
            let block = views.next_block().await;
            assert!(block == ":" || block == format!("id: {skipped}\n:"), "{block}");
        }
        assert_eq!(views.next_block().await, ":");
        drop(views);
        let view = server.publish("sse", "view", "y").await;
        let mut again = server.subscribe_after("/stream?event=view", Some(&skipped)).await;
        assert_eq!(again.next_event().await.id, view);
    }

    async fn heartbeats_do_not_delay_history(backend: Backend) {
        // A heartbeat is due before any read of the log can be complete.
        let flags = ["--heartbeat", "1ms", "--tail-events", "5", "--event-bytes-max", "8MiB"];
        let server = TestServer::start_with(backend, &flags).await;
        let before = server.subscribe("/stream").await.last_event_id;
        let large = "x".repeat(7 << 20);
        for number in 0..3 {
            server.publish("sse", "large", &format!("{number} {large}")).await;
        }
        server.publish_numbers("sse", 3..3000).await;
        let mut subscriber = server.subscribe_after("/stream", Some(&before)).await;
        for number in 0..3000 {
            let data = subscriber.next_event().await.data;
            assert_eq!(data.split(' ').next(), Some(&*number.to_string()));
        }
    }

    async fn unusual_data_arrives_as_it_was_sent(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        let large = "é".repeat(400_000);
        for (sent, received) in [
            ("", ""),
            (" leading and trailing ", " leading and trailing "),
            ("a\nb\r\nc\rd\n", "a\nb\nc\nd\n"),
            ("id: forged\n\nevent: gap\ndata: x", "id: forged\n\nevent: gap\ndata: x"),
            (": no comment", ": no comment"),
            ("\u{feff}bom \u{2028} \u{85}\u{b} \u{0}", "\u{feff}bom \u{2028} \u{85}\u{b} \u{0}"),
            (&large, &large),
        ] {
            let id = server.publish("sse", "click", sent).await;
            let event = subscriber.next_event().await;
            assert_eq!((event.id, event.event.as_str()), (id, "click"));
            assert!(event.data == received, "{} bytes became {}", received.len(), event.data.len());
        }
    }

    async fn a_disconnected_subscriber_is_noticed_without_an_event(backend: Backend) {
        let server = TestServer::start_with(backend, &["--heartbeat", "1h"]).await;
        let mut subscribers = Vec::new();
        for _ in 0..10 {
            subscribers.push(server.subscribe("/stream").await);
        }
        until("ten subscribers", async || (server.metric("sse_subscribers").await >= 10.0).then_some(())).await;
        drop(subscribers);
        until("no subscriber", async || (server.metric("sse_subscribers").await < 1.0).then_some(())).await;
        let files = std::path::PathBuf::from(format!("/proc/{}/fd", server.pid()));
        if files.exists() {
            let sockets = || std::fs::read_dir(&files).unwrap().count();
            until("the file descriptors are free", async || (sockets() < 40).then_some(())).await;
        } else {
            skip("descriptors are counted in /proc, which this system does not have");
        }
    }

    async fn a_slow_subscriber_is_served_from_history_and_delays_no_other(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "16"]).await;
        let mut slow = server.subscribe("/stream").await;
        let mut quick = server.subscribe("/stream").await;
        let padding = "x".repeat(5_000);
        let publish = async {
            for number in 0..2_000 {
                server.publish("sse", "click", &format!("{number} {padding}")).await;
            }
        };
        let read = async {
            for number in 0..2_000 {
                assert!(quick.next_event().await.data.starts_with(&format!("{number} ")));
            }
        };
        within("the other streams are on time", futures::future::join(publish, read)).await;
        for number in 0..2_000 {
            assert!(slow.next_event().await.data.starts_with(&format!("{number} ")));
        }
        assert!(server.metric("sse_subscribers_fell_behind_total").await >= 1.0, "it never fell behind");
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_the_stream_without_chunks() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = TestServer::start(Backend::Memory).await;
    let address = server.url.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket
        .write_all(b"GET /stream HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("data: x\n\n") {
        let count = within("bytes", socket.read(&mut buffer)).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        if text.contains("\n\n") && !text.contains("data: x") {
            server.publish("sse", "click", "x").await;
        }
    }
    assert!(!text.contains("chunked"), "{text}");
    assert!(text.contains("\r\n\r\nretry: 3000\n"), "{text}");
}
