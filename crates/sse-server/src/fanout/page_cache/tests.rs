//! Tests of the cache of pages.

use std::{net::IpAddr, pin::pin};

use sse_proto::Event;

use super::*;
use crate::{broker::Publisher, fanout::test_support::memory_broker};

#[tokio::test]
async fn the_next_page_is_read_ahead_for_a_stream_that_reads_on() {
    let broker = memory_broker();
    let event = |number: usize| Event {
        kind: "number".parse().unwrap(),
        data: number.to_string().into(),
    };
    let (channel, events) = (Channel::default_channel(), (0..25).map(event).collect());
    let appended = broker.append(Publisher::default(), &channel, events).await;
    appended.unwrap();
    let pages = PageCache::new(broker, 1000, Metrics::new(), Handle::current());
    let mut key = PageKey {
        channel,
        from: ReadFrom::Oldest,
        events_max: 10,
        epoch: 1,
    };

    let first = pages.read(key.clone(), None).await.unwrap();
    key = key.next_page(&first).unwrap();
    assert!(pages.cached(&key).is_none(), "no stream has read on yet");
    let second = pages.read(key.clone(), None).await.unwrap();
    key = key.next_page(&second).unwrap();
    while pages.cached(&key).is_none() {
        tokio::task::yield_now().await;
    }
    let third = pages.cached(&key).unwrap();
    let pages = [&first, &second, &third].into_iter();
    let read = pages.flat_map(|page| page.events.iter().map(|event| event.data.to_string()));
    assert!(read.eq((0..25).map(|number: usize| number.to_string())));
    assert_eq!(key.next_page(&third), None, "the log ends here for now");
}

#[tokio::test]
async fn reads_of_one_client_wait_for_one_another_and_delay_no_other() {
    let broker = memory_broker();
    let pages = PageCache::new(broker, 1000, Metrics::new(), Handle::current());
    let client = |last| Some(ClientNet::from(IpAddr::from([192, 0, 2, last])));
    let key = |number: u64| PageKey {
        channel: Channel::default_channel(),
        from: ReadFrom::Oldest,
        events_max: 10,
        epoch: number,
    };
    let started = pages
        .0
        .reads
        .acquire(client(1), CLIENT_READS_MAX, Duration::ZERO);
    let started = started.await.unwrap();
    let mut waits = pin!(pages.read(key(1), client(1)));
    assert!(futures::poll!(waits.as_mut()).is_pending());
    assert_eq!(pages.0.reads_waiting.get(), 1);
    for (number, other) in [(2, client(2)), (3, None)] {
        pages.read(key(number), other).await.unwrap();
    }
    assert!(futures::poll!(waits.as_mut()).is_pending());
    drop(started);
    waits.await.unwrap();
    assert_eq!(pages.0.reads_waiting.get(), 0);
}

#[tokio::test]
async fn a_read_keeps_the_turn_of_its_client_after_the_stream_is_closed() {
    let pages = PageCache::new(memory_broker(), 1000, Metrics::new(), Handle::current());
    let client = Some(ClientNet::from(IpAddr::from([192, 0, 2, 1])));
    let key = |number: usize| PageKey {
        channel: Channel::default_channel(),
        from: ReadFrom::Oldest,
        events_max: 10,
        epoch: number as u64,
    };
    let memory = pages.0.memory.clone().acquire_many_owned(kib(BYTES_MAX));
    let memory = memory.await.unwrap();
    for number in 0..CLIENT_READS_MAX {
        let mut closed = pin!(pages.read(key(number), client));
        assert!(futures::poll!(closed.as_mut()).is_pending());
    }
    let mut next = pin!(pages.read(key(CLIENT_READS_MAX), client));
    assert!(futures::poll!(next.as_mut()).is_pending());
    assert_eq!(
        pages.0.reads_waiting.get(),
        1,
        "each turn belongs to a read"
    );
    drop(memory);
    next.await.unwrap();
}
