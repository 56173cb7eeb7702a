//! Tests of the cache of pages.

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

    let first = pages.read(key.clone()).await.unwrap();
    key = key.next_page(&first).unwrap();
    assert!(pages.cached(&key).is_none(), "no stream has read on yet");
    let second = pages.read(key.clone()).await.unwrap();
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
