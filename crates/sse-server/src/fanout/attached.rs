//! An attached stream: a subscription that the body of a response serves, without a fan-out thread.
//!
//! The stream sends what its [`MultiSubscription`] decides, reads pages of history, and waits for
//! changed tails. It shares nothing with other streams except the page cache. Heartbeats and the
//! end on shutdown belong to [`stream_body`](super::stream_body).

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, select_all},
};
use smallvec::SmallVec;
use sse_cli::log_throttle::LogThrottle;
use sse_proto::{Channel, EventId};
use tokio::sync::watch;

use super::{
    attached_list::AttachedEntry,
    page_cache::{PageCache, PageKey},
    page_slot::{PageResult, PageSlot},
    settlement::wait_until_settled,
    shared_state::encode_heartbeat,
    stream_caller::StreamCaller,
    stream_guard::StreamGuard,
    streams::Streams,
};
use crate::{
    broker::BrokerError,
    channel::{
        Chunk, Envelope, LiveChannel, MultiSubscription, Searcher, Settlement,
        multi::{Fetch, MultiStep},
    },
};

/// A stream that its body serves.
pub(super) struct AttachedStream {
    pages: PageCache,
    searcher: Searcher,
    pub(super) subscription: MultiSubscription,
    /// In the order of the subscription's channels.
    tails: SmallVec<[WatchedTail; 1]>,
    /// Page that is being read. It survives when `next_chunk` is dropped for a heartbeat.
    fetching: Option<Fetch>,
    /// The read, unless a full socket has ended it.
    page: PageSlot,
    /// Waits for the end of the stream.
    settling: Option<BoxFuture<'static, Vec<Settlement>>>,
    damage_log: LogThrottle,
    listed: AttachedEntry,
}

struct WatchedTail {
    channel: Arc<LiveChannel>,
    changed: watch::Receiver<()>,
}

/// What ends a wait.
enum WakeUp {
    Page(PageResult),
    PageDropped,
    Settled(Vec<Settlement>),
    TailChanged,
}

impl AttachedStream {
    /// `page` is the slot that the connection empties when the socket is full. `starting` is the
    /// entry that the stream has in the list already.
    pub(super) fn new(
        streams: &Streams,
        subscription: MultiSubscription,
        until: Option<EventId>,
        searcher: Searcher,
        page: PageSlot,
        caller: Option<Arc<StreamCaller>>,
        starting: Option<AttachedEntry>,
    ) -> Self {
        let tails = subscription.channels().map(|channel| {
            let channel = streams.hub.join(channel);
            WatchedTail {
                changed: channel.tail.watch(),
                channel,
            }
        });
        let tails = tails.collect();
        let settling = until.map(|bound| {
            let channels = subscription.channels().cloned().collect();
            wait_until_settled(streams.hub.clone(), channels, bound).boxed()
        });
        Self {
            pages: streams.pages.clone(),
            searcher,
            listed: match starting {
                Some(mut entry) => {
                    entry.start(&subscription);
                    entry
                }
                None => streams.attached.add(&subscription, caller),
            },
            subscription,
            tails,
            fetching: None,
            page,
            settling,
            damage_log: LogThrottle::once(),
        }
    }

    /// Waits for the next chunk and its number of events. Returns `None` when the stream is over.
    ///
    /// The future may be dropped before it is ready; the next call continues its work.
    pub(super) async fn next_chunk(&mut self, guard: &mut StreamGuard) -> Option<(Bytes, usize)> {
        loop {
            self.read_again();
            // A finished page comes before the tails. Otherwise busy channels would delay a channel
            // that is served from history.
            if let Some(page) = self.finished_page().await
                && let Some(chunk) = self.apply_page(page, guard)
            {
                return Some(chunk);
            }
            let step = self.next_step();
            let is_behind = self.subscription.is_behind();
            guard.set_behind(is_behind);
            self.listed.update(&self.subscription);
            match step {
                MultiStep::Write(chunk) => return Some((chunk.bytes, chunk.events)),
                MultiStep::Fetch(fetch) => self.start_fetch(fetch),
                MultiStep::End => return self.last_chunk(),
                MultiStep::Wait => match self.wait().await {
                    WakeUp::Page(page) => {
                        if let Some(chunk) = self.apply_page(page, guard) {
                            return Some(chunk);
                        }
                    }
                    WakeUp::Settled(settlements) => self.subscription.set_settlements(settlements),
                    WakeUp::TailChanged | WakeUp::PageDropped => {}
                },
            }
        }
    }

    /// Encodes a heartbeat, which reports the position if the client does not know it.
    pub(super) fn heartbeat(&mut self) -> Bytes {
        encode_heartbeat(self.subscription.take_unsent_cursor())
    }

    /// Reports the position at the end, if the client does not know it.
    fn last_chunk(&mut self) -> Option<(Bytes, usize)> {
        let position = self.subscription.take_unsent_cursor()?;
        Some((encode_heartbeat(Some(position)), 0))
    }

    fn next_step(&mut self) -> MultiStep {
        // Mark every tail as seen before reading it: a change while it is read ends the next wait.
        for tail in &mut self.tails {
            tail.changed.borrow_and_update();
        }
        let fetching = self.fetching_channel();
        let step = self
            .subscription
            .next(|nth| self.tails[nth].channel.tail.frames(), fetching);
        let (_, envelope) = self.subscription.filter_and_envelope();
        if let (true, Some(tail)) = (envelope != Envelope::None, self.tails.first()) {
            // The step may have encoded events in an envelope, which their tails keep.
            tail.channel.limit_tails();
        }
        step
    }

    /// Returns the index of the channel that waits for a page.
    fn fetching_channel(&self) -> Option<usize> {
        self.fetching.map(|fetch| fetch.nth)
    }

    /// Reads the page again that a full socket has dropped.
    fn read_again(&mut self) {
        if let Some(fetch) = self.fetching
            && self.page.is_empty()
        {
            self.start_fetch(fetch);
        }
    }

    fn start_fetch(&mut self, fetch: Fetch) {
        let Some(channel) = self.subscription.channels().nth(fetch.nth) else {
            return;
        };
        let key = PageKey {
            channel: channel.clone(),
            from: fetch.from,
            events_max: self.subscription.page_events_max(),
            epoch: fetch.epoch,
        };
        let pages = self.pages.clone();
        let searcher = self.searcher.clone();
        let client = searcher.client();
        let is_search = !self.subscription.filter_and_envelope().0.is_all();
        let page = async move {
            if is_search {
                pages.search(key, searcher).await
            } else {
                pages.read(key, client).await
            }
        };
        self.page.set(page.boxed());
        self.fetching = Some(fetch);
    }

    /// Returns the page in flight if it has arrived, without waiting for it.
    async fn finished_page(&self) -> Option<PageResult> {
        self.fetching?;
        match poll_fn(|cx| Poll::Ready(self.page.poll(cx))).await {
            Some(Poll::Ready(page)) => Some(page),
            Some(Poll::Pending) | None => None,
        }
    }

    /// Waits for the page in flight, the end of the stream, or a changed tail.
    async fn wait(&mut self) -> WakeUp {
        let fetching = self.fetching_channel();
        let page = &self.page;
        // A full socket may drop the read while this waits.
        let read = poll_fn(|cx| match page.poll(cx) {
            Some(read) => read.map(WakeUp::Page),
            None => Poll::Ready(WakeUp::PageDropped),
        });
        tokio::select! {
            biased;
            wake_up = read, if fetching.is_some() => wake_up,
            settlements = wait_for(self.settling.as_mut().map(Pin::as_mut)) => {
                self.settling = None;
                WakeUp::Settled(settlements)
            }
            () = wait_for_change(&mut self.tails, fetching) => WakeUp::TailChanged,
        }
    }

    /// Applies the page that was in flight. Returns the chunk to send, if there is one.
    fn apply_page(&mut self, page: PageResult, guard: &StreamGuard) -> Option<(Bytes, usize)> {
        self.page.clear();
        let fetch = self.fetching.take()?;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                self.log_damage(fetch, &error);
                return None;
            }
        };
        let Chunk { bytes, events, gap } = self.subscription.apply_page(fetch, &page)?;
        if let Some(reason) = gap {
            guard.record_gap(reason);
        }
        Some((bytes, events))
    }

    fn log_damage(&mut self, fetch: Fetch, error: &BrokerError) {
        let is_damaged = matches!(error, BrokerError::Damaged(_));
        if is_damaged && self.damage_log.record(Instant::now()).is_some() {
            let channel = self.subscription.channels().nth(fetch.nth);
            let channel = channel.map(Channel::as_str);
            tracing::error!(channel, %error, "a subscriber cannot be served from history");
        }
    }
}

/// Waits for `future`, or for ever if there is none.
async fn wait_for<F: Future + ?Sized>(future: Option<Pin<&mut F>>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits until a tail changes. The tail of the channel that waits for a page does not count.
async fn wait_for_change(tails: &mut [WatchedTail], fetching: Option<usize>) {
    let change = async |tail: &mut WatchedTail| match tail.changed.changed().await {
        Ok(()) => (),
        // The sender lives in the channel, which the stream holds.
        Err(_) => pending().await,
    };
    match (tails, fetching) {
        ([], _) | ([_], Some(0)) => pending().await,
        ([tail], _) => change(tail).await,
        (tails, fetching) => {
            let others = tails
                .iter_mut()
                .enumerate()
                .filter(|(nth, _)| Some(*nth) != fetching);
            select_all(others.map(|(_, tail)| Box::pin(change(tail)))).await;
        }
    }
}
