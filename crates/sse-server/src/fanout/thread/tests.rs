//! The list of streams, over several threads.

use std::net::TcpListener;

use sse_proto::{Channel, EventId, Position};
use tokio::runtime::Handle;

use super::*;
use crate::{
    channel::{Hub, MultiSubscription, SubscriptionOptions, TailLimits},
    connections::ConnectionTable,
    fanout::{
        TransferCoding,
        admission::{Admission, AdmissionDecision},
        blocked::BlockedBytes,
        detach::DetachableSocket,
        drain::Drain,
        page_cache::PageCache,
        stream_guard::{CloseReason, StreamGuard},
        test_support::memory_broker,
    },
    metrics::Metrics,
};

fn start_fanout(threads: usize) -> Fanout {
    let limits = TailLimits {
        events_max: NonZeroUsize::MIN,
        bytes_max: usize::MAX,
    };
    let (broker, runtime) = (memory_broker(), Handle::current());
    let settings = FanoutSettings {
        coalesce: Duration::from_millis(5),
        heartbeat: Duration::from_secs(15),
        retry: Duration::from_secs(3),
        write_timeout: Duration::from_secs(10),
    };
    let context = FanoutContext {
        settings,
        hub: Hub::new(
            broker.clone(),
            limits,
            usize::MAX,
            Metrics::new(),
            runtime.clone(),
        ),
        pages: PageCache::new(broker, 1000, Metrics::new(), runtime.clone()),
        blocked: BlockedBytes::new(1 << 20, Metrics::new()),
        drain: Drain::default(),
        metrics: Metrics::new(),
        runtime,
    };
    Fanout::start(NonZeroUsize::new(threads).unwrap(), &context).unwrap()
}

/// Adds a stream of `channels`. Returns the socket of its client.
async fn add_stream(
    fanout: &Fanout,
    admission: &Admission,
    channels: &[&str],
) -> std::net::TcpStream {
    let AdmissionDecision::Admitted(guard) = admission.admit(false, None) else {
        panic!("the limit is reached")
    };
    add_stream_with(fanout, guard, channels, &SubscriptionOptions::default()).await
}

async fn add_stream_with(
    fanout: &Fanout,
    guard: StreamGuard,
    channels: &[&str],
    options: &SubscriptionOptions,
) -> std::net::TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
    let connection = ConnectionTable::for_tests().accept(None, false).unwrap();
    let socket = DetachableSocket::new(accepted, connection, Duration::from_secs(10));
    let start = Ok(Position::After(EventId::ZERO));
    let starts = channels
        .iter()
        .map(|channel| (channel.parse().unwrap(), start.clone()));
    fanout.add_stream(NewStream {
        socket: socket.detach().await.unwrap().unwrap(),
        coding: TransferCoding::Identity,
        subscription: MultiSubscription::new(starts, options),
        until: None,
        guard,
        reserved: None,
    });
    client
}

#[tokio::test]
async fn the_streams_of_all_threads_are_listed_with_their_channels() {
    let fanout = start_fanout(2);
    let admission = Admission::new(10, Metrics::new());
    let mut clients = Vec::new();
    for channels in [&["a"][..], &["b", "c"], &["a"]] {
        clients.push(add_stream(&fanout, &admission, channels).await);
    }

    let streams = fanout.list_streams().await;
    assert!(streams.iter().all(|stream| !stream.is_behind_tail));
    let mut channels: Vec<String> = streams
        .iter()
        .map(|stream| stream.channels.iter().map(Channel::as_str).collect())
        .collect();
    channels.sort();
    assert_eq!(channels, ["a", "a", "bc"]);

    fanout.end_streams();
    let threads = fanout.clone();
    tokio::task::spawn_blocking(move || threads.close())
        .await
        .unwrap();
    // A closed thread does not answer, and does not keep the caller waiting.
    assert!(fanout.list_streams().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_notices_learns_that_its_right_expires() {
    let fanout = start_fanout(1);
    let admission = Admission::new(10, Metrics::new());
    let mut texts = Vec::new();
    for notices in [true, false] {
        let AdmissionDecision::Admitted(mut guard) = admission.admit(false, None) else {
            panic!("the limit is reached")
        };
        let expiry = std::time::Instant::now() + Duration::from_millis(200);
        guard.expire_at(expiry, CloseReason::Life);
        let options = SubscriptionOptions {
            notices,
            ..SubscriptionOptions::default()
        };
        let client = add_stream_with(&fanout, guard, &["a"], &options).await;
        let read = move || std::io::read_to_string(client).unwrap();
        texts.push(tokio::task::spawn_blocking(read).await.unwrap());
    }
    assert!(!texts[1].contains("notice"), "{}", texts[1]);
    let mut kinds = texts[0]
        .matches("event: notice\ndata: {\"kind\":\"")
        .count();
    assert!(
        texts[0].contains(r#"{"kind":"expires","in_ms":"#),
        "{}",
        texts[0]
    );
    // It may be live by then, and the end is a notice too.
    kinds -= usize::from(texts[0].contains(r#"{"kind":"live"}"#));
    assert_eq!(kinds, 2, "{}", texts[0]);
}
