//! What is counted, and which streams are closed.

use std::{
    io,
    net::IpAddr,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::fanout::page_slot::PageSlot;

const KIB: usize = 1 << 10;
/// What a chunk of 100 KiB takes.
const CHUNK: usize = (112 << 10) + (4 << 10);

fn client(last: u8) -> ClientNet {
    IpAddr::from([192, 0, 2, last]).into()
}

/// A chunk of 100 KiB; the number is in its middle.
fn chunk(number: u8) -> Bytes {
    let mut bytes = vec![b'x'; 100 * KIB];
    bytes[50 * KIB] = number;
    bytes.into()
}

/// A blocked stream and whether it was asked to close.
struct Stream {
    close_request: Arc<CloseRequest>,
    _share: BlockedShare,
    held: Bytes,
}

impl Stream {
    fn is_evicted(&self) -> bool {
        self.close_request.is_sent()
    }
}

fn block(blocked: &BlockedBytes, client: impl Into<Option<ClientNet>>, chunk: &Bytes) -> Stream {
    let close_request = Arc::<CloseRequest>::default();
    let closer = Closer::Attached(close_request.clone());
    let (held, share) = blocked.hold_chunk(chunk, 0, Bytes::clone, client.into(), closer);
    Stream {
        close_request,
        _share: share,
        held,
    }
}

fn bytes(blocked: &BlockedBytes) -> usize {
    let bytes = blocked.lock().bytes();
    let metric = format!("sse_blocked_bytes {bytes}\n");
    assert!(blocked.0.metrics.render().contains(&metric), "{metric}");
    bytes
}

fn memory(bytes_max: usize) -> BlockedBytes {
    BlockedBytes::new(bytes_max, Metrics::new())
}

#[test]
fn equal_chunks_are_held_and_counted_once() {
    let blocked = memory(10 * CHUNK);
    let mut streams: Vec<_> = (1..5)
        .map(|last| block(&blocked, client(last), &chunk(7)))
        .collect();
    assert_eq!(bytes(&blocked), CHUNK);
    let first = streams[0].held.as_ptr();
    assert!(streams.iter().all(|stream| stream.held.as_ptr() == first));
    // The chunk remains until its last stream has written it.
    streams.truncate(1);
    assert_eq!(bytes(&blocked), CHUNK);
    drop(streams);
    assert_eq!(bytes(&blocked), 0);
}

#[test]
fn chunks_that_differ_in_the_middle_are_held_apart() {
    let blocked = memory(10 * CHUNK);
    let streams = [7, 8, 9].map(|number| block(&blocked, client(1), &chunk(number)));
    assert_eq!(bytes(&blocked), 3 * CHUNK);
    for (stream, number) in streams.iter().zip([7, 8, 9]) {
        assert_eq!(stream.held, chunk(number));
    }
    drop(streams);
    assert_eq!(bytes(&blocked), 0);
    assert!(blocked.lock().chunks.is_empty() && blocked.lock().streams.is_empty());
}

#[test]
fn the_client_that_holds_most_loses_the_stream_that_is_blocked_for_the_longest_time() {
    let blocked = memory(4 * CHUNK);
    let slow = block(&blocked, client(1), &chunk(0));
    let large: Vec<_> = (1..6)
        .map(|number| block(&blocked, client(2), &chunk(number)))
        .collect();
    let evicted: Vec<_> = large.iter().map(Stream::is_evicted).collect();
    assert_eq!(evicted, [true, true, false, false, false]);
    assert!(!slow.is_evicted());
    assert_eq!(bytes(&blocked), 4 * CHUNK);
    // What an evicted stream held is no longer counted, so its end changes nothing.
    drop(large);
    assert_eq!(bytes(&blocked), CHUNK);
}

#[test]
fn a_crowd_that_waits_for_the_same_chunk_holds_little() {
    let blocked = memory(2 * CHUNK);
    let crowd: Vec<_> = (0..9)
        .map(|_| block(&blocked, client(1), &chunk(0)))
        .collect();
    let other = [1, 2].map(|number| block(&blocked, None, &chunk(number)));
    assert!(!crowd.iter().any(Stream::is_evicted));
    assert_eq!(other.map(|stream| stream.is_evicted()), [true, false]);
}

#[test]
fn streams_are_closed_until_the_rest_is_within_the_bound() {
    let blocked = memory(CHUNK);
    let shared: Vec<_> = (0..3)
        .map(|_| block(&blocked, client(1), &chunk(0)))
        .collect();
    let last = block(&blocked, client(1), &chunk(1));
    // A chunk is free only when all its streams are closed.
    assert!(shared.iter().all(Stream::is_evicted) && !last.is_evicted());
    assert_eq!(bytes(&blocked), CHUNK);
}

#[test]
fn a_chunk_that_is_larger_than_the_bound_is_not_held() {
    let blocked = memory(CHUNK - 1);
    let stream = block(&blocked, client(1), &chunk(0));
    assert!(stream.is_evicted());
    assert_eq!(bytes(&blocked), 0);
}

#[test]
fn a_buffer_counts_until_it_is_written_and_its_stream_fails_beyond_the_bound() {
    let blocked = memory(CHUNK);
    let mut buffer = BlockedBuffer::new(blocked.clone(), Some(client(1)), PageSlot::default());
    let cx = Context::from_waker(Waker::noop());
    let record = |buffer: &mut BlockedBuffer, length, written: Poll<io::Result<usize>>| {
        buffer.record_write(&cx, length, written)
    };
    assert!(record(&mut buffer, 1000, Poll::Pending).is_pending());
    assert_eq!(bytes(&blocked), 1024);
    assert!(record(&mut buffer, 1000, Poll::Ready(Ok(400))).is_ready());
    assert!(record(&mut buffer, 600, Poll::Pending).is_pending());
    assert_eq!(bytes(&blocked), 1024);
    assert!(record(&mut buffer, 600, Poll::Ready(Ok(600))).is_ready());
    assert_eq!(bytes(&blocked), 0);
    assert!(record(&mut buffer, 100 * KIB, Poll::Pending).is_pending());
    let small = block(&blocked, client(2), &chunk(0));
    let written = record(&mut buffer, 100 * KIB, Poll::Pending);
    assert!(matches!(written, Poll::Ready(Err(_))) && buffer.is_evicted());
    assert!(!small.is_evicted());
    assert_eq!(bytes(&blocked), CHUNK);
}

#[test]
fn a_buffer_that_was_written_before_its_stream_could_close_is_kept() {
    let blocked = memory(CHUNK);
    let mut buffer = BlockedBuffer::new(blocked.clone(), Some(client(1)), PageSlot::default());
    let cx = Context::from_waker(Waker::noop());
    assert!(
        buffer
            .record_write(&cx, 100 * KIB, Poll::Pending)
            .is_pending()
    );
    let other = block(&blocked, client(2), &chunk(0));
    assert!(buffer.is_evicted() && !other.is_evicted());
    let written = buffer.record_write(&cx, 100 * KIB, Poll::Ready(Ok(100 * KIB)));
    assert!(written.is_ready() && !buffer.is_evicted());
    assert!(buffer.record_write(&cx, 100, Poll::Pending).is_pending());
}

#[test]
fn a_stream_closes_at_once_while_too_many_others_are_not_closed_yet() {
    let blocked = memory(4 * CHUNK);
    let cx = Context::from_waker(Waker::noop());
    let mut buffers: Vec<_> = (0..7)
        .map(|_| BlockedBuffer::new(blocked.clone(), Some(client(1)), PageSlot::default()))
        .collect();
    let written: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| {
            buffer
                .record_write(&cx, 100 * KIB, Poll::Pending)
                .is_pending()
        })
        .collect();
    // Five buffers are in memory, of which one must close. There is no room for more of them.
    assert_eq!(written, [true, true, true, true, true, false, false]);
    let evicted: Vec<_> = buffers.iter().map(BlockedBuffer::is_evicted).collect();
    assert_eq!(evicted[..2], [true, true]);
    drop(buffers);
    assert_eq!(bytes(&blocked), 0);
    assert_eq!(blocked.lock().closing_bytes, 0);
}
