use super::*;
use crate::{connections::ConnectionTable, metrics::Metrics};

fn connection() -> MultiplexedConnection {
    let table = ConnectionTable::for_tests();
    let connection = table.accept(None, false);
    MultiplexedConnection::new(connection.expect("there is room"))
}

#[test]
fn a_connection_has_192_places_for_streams_which_are_free_again_after_their_requests() {
    let connection = connection();
    let mut streams: Vec<_> = (0..192).map(|_| connection.start_request(None)).collect();
    assert!(streams.iter().all(MultiplexedStream::claim_place));
    // One request takes no more than one place.
    assert!(streams[0].claim_place());
    let rejected = connection.start_request(None);
    assert!(!rejected.claim_place());
    let copy = streams[0].clone();
    streams.remove(0);
    assert!(!rejected.claim_place());
    drop(copy);
    assert!(rejected.claim_place());
    assert_eq!(connection.request_count(), 192);
}

#[test]
fn a_stream_counts_its_chunk_only_while_it_is_blocked() {
    let metrics = Metrics::new();
    let held_bytes = || {
        let text = metrics.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("sse_blocked_bytes "));
        line.map(ToOwned::to_owned)
    };
    let stream = connection().start_request(None);
    let cx = Context::from_waker(std::task::Waker::noop());
    let mut chunk = Bytes::from(vec![b'x'; 1 << 10]);
    // A response that is not a stream counts elsewhere.
    assert!(stream.hold_blocked(&cx, &mut chunk) && !stream.is_stream());
    let free = held_bytes();
    stream.count_blocked(
        BlockedBytes::new(100 << 10, metrics.clone()),
        PageSlot::default(),
    );
    assert!(stream.is_stream() && stream.hold_blocked(&cx, &mut chunk));
    assert_ne!(held_bytes(), free);
    stream.release_blocked();
    assert_eq!(held_bytes(), free);
    let mut large = Bytes::from(vec![b'x'; 200 << 10]);
    assert!(!stream.hold_blocked(&cx, &mut large));
    assert_eq!(stream.close_reason(), Some(CloseReason::BlockedBytes));
}
