//! One wave of each attack: what a client sends, without what the victims notice.
//!
//! The tests of this program send one wave and check bounds; `scripts/torture --attack` repeats all
//! of them beside honest load. The connections of a wave stay open until the caller drops them.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::attacker::{Attacker, get};

/// How long an attacker waits for a response before it continues.
const RESPONSE_MAX: Duration = Duration::from_secs(10);

/// The connections of a wave.
pub(crate) type Held = Vec<TcpStream>;

/// Declares large bodies, and sends one byte of each.
pub(crate) async fn slow_bodies(attacker: &Attacker, count: u32) -> Held {
    let mut held = Held::new();
    for number in 0..count {
        let framing = if number % 2 == 0 {
            "Content-Length: 16777216\r\n\r\n{"
        } else {
            "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        };
        let request = format!(
            "POST /events?channel=attack HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/x-ndjson\r\n{framing}"
        );
        held.push(attacker.send(request.as_bytes()).await);
    }
    held
}

/// Sends one complete request per connection, and then a head that never ends.
pub(crate) async fn unfinished_heads(attacker: &Attacker, count: usize) -> Held {
    let mut held = Held::new();
    for _ in 0..count {
        let mut connection = attacker.send(&get("/health/live")).await;
        // A connection that the server has closed at once has nothing to read.
        let mut response = [0; 1024];
        let read = timeout(RESPONSE_MAX, connection.read(&mut response)).await;
        if matches!(read, Ok(Ok(1..))) {
            let _ = connection.write_all(b"GET /").await;
        }
        held.push(connection);
    }
    held
}

/// Opens connections that send nothing.
pub(crate) async fn silent_connections(attacker: &Attacker, count: usize) -> Held {
    let mut held = Held::new();
    for _ in 0..count {
        held.push(attacker.send(b"").await);
    }
    held
}

/// Opens streams of the channel `attack`.
pub(crate) async fn streams(attacker: &Attacker, count: usize) -> Held {
    let mut held = Held::new();
    for _ in 0..count {
        held.push(attacker.send(&get("/stream?channel=attack")).await);
    }
    held
}

/// Asks for the history of a channel, and reads no response.
pub(crate) async fn unread_history(attacker: &Attacker, channel: &str, count: usize) -> Held {
    let mut held = Held::new();
    let request = get(&format!("/events?channel={channel}"));
    for _ in 0..count {
        held.push(attacker.send_without_reading(&request).await);
    }
    held
}

/// Searches a channel for events of types that it does not have.
pub(crate) async fn fruitless_searches(attacker: &Attacker, channel: &str, count: usize) -> Held {
    let mut held = Held::new();
    for number in 0..count {
        for path in ["/stream?last=10000&", "/events?"] {
            let request = get(&format!("{path}channel={channel}&event=none{number}"));
            held.push(attacker.send(&request).await);
        }
    }
    held
}

/// Opens streams of 32 channels each, which have not been used before.
pub(crate) async fn lookups(attacker: &Attacker, wave: usize, streams: usize) -> Held {
    let mut held = Held::new();
    for stream in 0..streams {
        let channels = (0..32).map(|number| format!("channel=a{wave}.{stream}.{number}"));
        let channels = channels.collect::<Vec<_>>().join("&");
        held.push(attacker.send(&get(&format!("/stream?{channels}"))).await);
    }
    held
}

/// Opens streams with a filter each from the oldest event of a channel, and reads nothing.
pub(crate) async fn unread_streams(attacker: &Attacker, channel: &str, count: usize) -> Held {
    let mut held = Held::new();
    for number in 0..count {
        let filter = format!("event=x&event=none{number}");
        let request = get(&format!("/stream?channel={channel}&from=oldest&{filter}"));
        held.push(attacker.send_without_reading(&request).await);
    }
    held
}

/// Opens streams from the oldest event of many channels, and reads only the heads.
pub(crate) async fn streams_from_oldest(
    attacker: &Attacker,
    prefix: &str,
    channels: usize,
    count: usize,
) -> Held {
    let channels = (0..channels).map(|number| format!("channel={prefix}{number}&"));
    let request = get(&format!(
        "/stream?{}from=oldest",
        channels.collect::<String>()
    ));
    let mut held = Held::new();
    for _ in 0..count {
        held.push(attacker.send_without_reading(&request).await);
    }
    held
}

/// Publishes one event to each of `count` new channels, in one request.
pub(crate) async fn batch_of_channels(attacker: &Attacker, prefix: &str, count: usize) {
    let line =
        |number| format!(r#"{{"event":"x","data":"","channel":"{prefix}.{number}"}}"#) + "\n";
    let request = attacker.batch("attack", (0..count).map(line).collect());
    // The log may be full, or the client may have its part of the channels.
    let _ = request.send().await;
}

/// Asks for the longest list of channels, and reads no response.
pub(crate) async fn unread_lists(attacker: &Attacker, count: usize) -> Held {
    let mut held = Held::new();
    let request = get("/channels?limit=1000");
    for _ in 0..count {
        held.push(attacker.send_without_reading(&request).await);
    }
    held
}

/// Opens streams of 32 channels, and describes a channel as often, which needs a list of all
/// streams.
pub(crate) async fn descriptions(attacker: &Attacker, count: usize) -> Held {
    let channels = (0..32).map(|number| format!("channel=d{number}"));
    let stream = get(&format!(
        "/stream?{}",
        channels.collect::<Vec<_>>().join("&")
    ));
    let mut held = Held::new();
    for _ in 0..count {
        held.push(attacker.send(&stream).await);
        held.push(attacker.send(&get("/channels/attack").repeat(10)).await);
    }
    held
}

/// Publishes one event to each of `count` new channels; returns how many were created.
///
/// The others must have been rejected because of the client's part, because the log is full, or
/// because the other attacks of the client use its part of something else.
pub(crate) async fn new_channels(attacker: &Attacker, wave: usize, count: usize) -> usize {
    let mut created = 0;
    for number in 0..count {
        let publish = attacker.post(&format!("/event/x?channel=n{wave}.{number}"));
        match publish.send().await.map(|response| response.status()) {
            Ok(StatusCode::OK) => created += 1,
            Ok(
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE,
            )
            | Err(_) => {}
            Ok(status) => panic!("{status}"),
        }
    }
    created
}

/// Publishes `count` empty events with a key each, as one batch.
pub(crate) async fn keys(
    attacker: &Attacker,
    channel: &str,
    wave: usize,
    count: usize,
) -> Response {
    let lines = (0..count)
        .map(|number| format!(r#"{{"event":"x","data":"","key":"key-{wave}-{number}"}}"#) + "\n");
    let request = attacker.batch(channel, lines.collect());
    request.send().await.expect("a response")
}

/// Speaks TLS, and publishes from a foreign page: the server logs both.
pub(crate) async fn logged_mistakes(attacker: &Attacker) {
    let hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03";
    let mut scan = attacker.send(hello).await;
    let _ = timeout(RESPONSE_MAX, scan.read_to_end(&mut Vec::new())).await;
    let page = attacker
        .post("/event/x")
        .header("origin", "https://evil.example");
    let _ = page.send().await;
}
