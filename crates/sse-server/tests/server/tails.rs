//! The newest events of all channels share a bound of memory. Beyond it they are read from history.

use crate::common::{Backend, TestServer, peak_memory};

const MIB: usize = 1 << 20;
const CHANNELS: usize = 64;
/// A stream has at most 32 channels.
const CHANNELS_PER_STREAM: usize = 32;
/// Events per channel, of 256 KiB each.
const EVENTS: usize = 4;
const TAILS_BYTES_MAX: u32 = 8 << 20;
/// A tail is fed with up to one MiB before the bound is checked.
const PAGE_BYTES: u32 = 5 << 18;
const HISTORY_BYTES_MAX: usize = 8 * MIB;
/// Bodies of publishes, pages, and what the allocator keeps for a moment.
const MARGIN: usize = 24 * MIB;

fn path(channels: std::ops::Range<usize>, rest: &str) -> String {
    let channels: Vec<_> = channels
        .map(|number| format!("channel=c{number}"))
        .collect();
    format!("/stream?{}&{rest}", channels.join("&"))
}

async fn assert_within_bound(server: &TestServer) {
    let bytes = server.metric("sse_tails_bytes").await;
    let max = f64::from(TAILS_BYTES_MAX + PAGE_BYTES);
    assert!(bytes <= max, "the tails take {bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tails_together_stay_within_their_bound_and_nothing_is_lost() {
    let flags = [
        "--tails-bytes",
        "8MiB",
        "--tail-bytes",
        "1MiB",
        "--history-bytes",
        "8MiB",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    // These streams keep the tails, and are sent nothing.
    let mut keepers = Vec::new();
    for start in (0..CHANNELS).step_by(CHANNELS_PER_STREAM) {
        let path = path(start..start + CHANNELS_PER_STREAM, "event=nothing");
        keepers.push(server.subscribe(&path).await);
    }
    let last = format!("c{}", CHANNELS - 1);
    let before = server.publish(&last, "n", "before").await;
    let at_start = peak_memory(&server);
    let text = "x".repeat(MIB / 4);
    for channel in 0..CHANNELS {
        for number in 0..EVENTS {
            let data = format!("{number} {text}");
            server.publish(&format!("c{channel}"), "n", &data).await;
        }
        assert_within_bound(&server).await;
    }
    assert!(server.metric("sse_tails_cut_total").await > 0.0);

    // A client that is behind its cut tail gets every event, in envelopes too, which tails keep.
    for rest in ["", "&envelope=json"] {
        let path = format!("/stream?channel={last}{rest}");
        let mut subscriber = server.subscribe_after(&path, Some(&before)).await;
        for number in 0..EVENTS {
            let data = subscriber.next_event().await.data;
            assert!(data.contains(&format!("{number} xxx")), "{}", &data[..100]);
        }
        assert_within_bound(&server).await;
    }
    let grown = peak_memory(&server) - at_start;
    let max = TAILS_BYTES_MAX as usize + HISTORY_BYTES_MAX + MARGIN;
    println!(
        "the server grew by {} MiB, which may be {} MiB",
        grown / MIB,
        max / MIB
    );
    assert!(grown < max, "the server grew by {grown} bytes");
    drop(keepers);
}
