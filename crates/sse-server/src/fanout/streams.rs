//! What all streams of a server share, and the list of what is live.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    admission::Admission, attached_list::AttachedList, attached_sockets::AttachedSockets,
    blocked::BlockedBytes, drain::Drain, live_list::ListTurns, page_cache::PageCache,
    publish_list::PublishList, stream_life::StreamLife, thread::Fanout,
};
pub use super::{live_list::LiveList, mailbox::StreamInfo};
use crate::channel::Hub;

/// Settings that all streams of a server share.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// Time after which a client should reconnect, for the field `retry`.
    pub retry: Duration,
}

/// What all streams of a server share; clones share it.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The channels.
    pub hub: Hub,
    /// Pages of history.
    pub pages: PageCache,
    /// Memory of the streams whose sockets are full.
    pub blocked: BlockedBytes,
    /// Settings.
    pub settings: StreamSettings,
    /// Threads that take over the sockets; `None` if every stream stays attached.
    pub fanout: Option<Fanout>,
    /// The streams that actix serves to their end.
    pub attached: AttachedList,
    /// The sockets of the streams that actix serves.
    pub attached_sockets: AttachedSockets,
    /// The streaming publishes that are open.
    pub publishes: PublishList,
    /// Who waits for a list of the streams.
    pub list_turns: ListTurns,
    /// Limits how long streams are open.
    pub life: StreamLife,
    /// Limits how many streams are open.
    pub admission: Admission,
    /// Ends the streams one after another.
    pub drain: Drain,
    /// Ends the streams.
    pub stopping: CancellationToken,
}

impl Streams {
    /// Lists the channels that have subscribers, and the streams.
    ///
    /// The list is not a snapshot: it is made in several steps, and streams open and close
    /// meanwhile. All streams that were open before this call are in it. Requests that arrive at the
    /// same time share a list, and may wait for one another, about a second at most.
    pub async fn list(&self) -> Arc<LiveList> {
        self.list_turns.list(async || self.make_list().await).await
    }

    async fn make_list(&self) -> LiveList {
        // A stream that a thread takes over meanwhile is in both lists, and never in neither.
        let mut streams = self.attached.streams();
        if let Some(fanout) = &self.fanout {
            let mut listed = HashSet::new();
            let id = |stream: &StreamInfo| stream.caller.as_ref().map(|caller| caller.id());
            listed.extend(streams.iter().filter_map(id));
            let served = fanout.list_streams().await.into_iter();
            streams
                .extend(served.filter(|stream| id(stream).is_none_or(|id| !listed.contains(&id))));
        }
        LiveList::new(self.hub.channels(), streams)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use sse_proto::{Channel, Event, EventId, Position};
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        broker::Publisher,
        channel::{MultiSubscription, SubscriptionOptions, TailLimits},
        fanout::{
            admission::AdmissionDecision, attached::AttachedStream, blocked::BlockedBuffer,
            page_slot::PageSlot, test_support::memory_broker,
        },
        metrics::Metrics,
    };

    fn streams() -> Streams {
        let (broker, runtime) = (memory_broker(), Handle::current());
        let limits = TailLimits {
            events_max: std::num::NonZeroUsize::MIN,
            bytes_max: usize::MAX,
        };
        Streams {
            hub: Hub::new(
                broker.clone(),
                limits,
                usize::MAX,
                Metrics::new(),
                runtime.clone(),
            ),
            pages: PageCache::new(broker, 1000, Metrics::new(), runtime),
            blocked: BlockedBytes::new(1 << 20, Metrics::new()),
            settings: StreamSettings {
                heartbeat: Duration::from_secs(15),
                retry: Duration::from_secs(1),
            },
            fanout: None,
            attached: AttachedList::default(),
            attached_sockets: AttachedSockets::default(),
            publishes: PublishList::default(),
            list_turns: ListTurns::default(),
            life: StreamLife::default(),
            admission: Admission::new(10, Metrics::new()),
            drain: Drain::default(),
            stopping: CancellationToken::new(),
        }
    }

    fn attach(streams: &Streams, channels: &[&str]) -> AttachedStream {
        let starts = channels.iter().map(|channel| {
            let start = Ok(Position::After(EventId::ZERO));
            (channel.parse().unwrap(), start)
        });
        let subscription = MultiSubscription::new(starts, &SubscriptionOptions::default());
        let searcher = streams.pages.searches().of_client(None);
        AttachedStream::new(
            streams,
            subscription,
            None,
            searcher,
            PageSlot::default(),
            None,
            None,
        )
    }

    /// Opens a buffer whose socket is full.
    fn block(streams: &Streams, page: &PageSlot) -> BlockedBuffer {
        let mut buffer = BlockedBuffer::new(streams.blocked.clone(), None, page.clone());
        let cx = Context::from_waker(Waker::noop());
        assert!(buffer.record_write(&cx, 1, Poll::Pending).is_pending());
        buffer
    }

    #[tokio::test]
    async fn a_stream_whose_socket_is_full_holds_no_page_and_reads_it_again() {
        let streams = streams();
        let channel: Channel = "a".parse().unwrap();
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "hello".into(),
        };
        let broker = streams.hub.broker();
        broker
            .append(Publisher::default(), &channel, vec![event])
            .await
            .unwrap();
        let starts = [(channel, Ok(Position::At(EventId::new(1, 0))))];
        let subscription = MultiSubscription::new(starts, &SubscriptionOptions::default());
        let searcher = streams.pages.searches().of_client(None);
        let page = PageSlot::default();
        let mut stream = AttachedStream::new(
            &streams,
            subscription,
            None,
            searcher,
            page.clone(),
            None,
            None,
        );
        let AdmissionDecision::Admitted(mut guard) = streams.admission.admit(false, None) else {
            panic!("the limit is reached")
        };
        let mut next_chunk = pin!(stream.next_chunk(&mut guard));
        while page.is_empty() {
            assert!(futures::poll!(next_chunk.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let _buffer = block(&streams, &page);
        assert!(page.is_empty());
        let (bytes, _) = next_chunk.await.unwrap();
        assert!(bytes.ends_with(b"data: hello\n\n"), "{bytes:?}");
        assert!(page.is_empty());
    }

    #[tokio::test]
    async fn attached_streams_and_their_channels_are_listed_until_they_end() {
        let streams = streams();
        let (pair, single) = (attach(&streams, &["b", "a"]), attach(&streams, &["a"]));
        let list = streams.list().await;
        let mut channels = list.channels.clone();
        channels.sort_unstable();
        let listed: Vec<Vec<&str>> = list
            .streams
            .iter()
            .map(|stream| stream.channels.iter().map(Channel::as_str).collect())
            .collect();
        assert_eq!(listed, [vec!["b", "a"], vec!["a"]]);
        assert_eq!(list.count_streams(&channels[0]), 2);
        assert_eq!(channels, ["a", "b"].map(|name| name.parse().unwrap()));

        drop(pair);
        assert_eq!(streams.list().await.streams.len(), 1);
        drop(single);
        let list = streams.list().await;
        assert!(list.channels.is_empty() && list.streams.is_empty());
    }
}
