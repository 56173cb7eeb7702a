//! Reads of history for streams, and what else streams wait for.
//!
//! A read runs as a task on the tokio runtime, and comes back as a [`Completion`] with the request
//! id of the read. The stream may be closed by then, and its key may belong to another stream. Such
//! a completion is ignored, because its request id is unique and no stream waits for it.
//!
//! ```text
//! slot 7: stream A   start_fetch ──► read, request 41        A is closed, slot 7 is free
//! slot 7: stream B   start_fetch ──► read, request 42
//! completion (slot 7, request 41): B waits for 42, so this page is dropped
//! completion (slot 7, request 42): B continues with this page
//! ```

use std::time::Instant;

use tokio::task::AbortHandle;

use super::{Reactor, to_stored_key};
use crate::{
    broker::BrokerError,
    budget::ClientNet,
    channel::{Searcher, Settlement, multi::Fetch},
    fanout::{
        connection::Connection,
        mailbox::{Completion, CompletionResult},
        page_cache::{PageKey, SharedPage},
        shared_state::Action,
    },
};

impl Reactor<'_> {
    /// Starts the read of a page for a stream.
    pub(super) fn start_fetch(&mut self, key: usize, fetch: Fetch) {
        let request_id = self.mailbox.new_request_id();
        let Ok(stored_key) = to_stored_key(key) else {
            return;
        };
        let Some((connection, watched)) = self.connection_and_view(key) else {
            return;
        };
        let page_key = PageKey {
            channel: watched.view.key.channels[fetch.nth].clone(),
            from: fetch.from,
            events_max: connection.state.subscription.page_events_max(),
            epoch: fetch.epoch,
        };
        let is_search = watched.view.key.is_search();
        let client = connection.client();
        connection.set_fetching(request_id, fetch);
        let pages = &self.context.pages;
        let searcher = is_search.then(|| pages.searches().of_client(client));
        let task = self.read_page(page_key, client, searcher, move |page| Completion {
            key: stored_key,
            request_id,
            result: CompletionResult::Page(fetch, page),
        });
        if let (Some(task), Some((connection, _))) = (task, self.connection_and_view(key)) {
            connection.set_reading(task);
        }
    }

    /// Reads a page in a task that it returns. Completes at once if the page is cached.
    fn read_page(
        &mut self,
        page_key: PageKey,
        client: Option<ClientNet>,
        searcher: Option<Searcher>,
        completion: impl FnOnce(Result<SharedPage, BrokerError>) -> Completion + Send + 'static,
    ) -> Option<AbortHandle> {
        if let Some(page) = self.context.pages.cached(&page_key) {
            self.completions.push(client, completion(Ok(page)));
            return None;
        }
        let (pages, mailbox) = (self.context.pages.clone(), self.mailbox.clone());
        let task = self.context.runtime.spawn(async move {
            let completion = completion(match searcher {
                Some(searcher) => pages.search(page_key, searcher).await,
                None => pages.read(page_key, client).await,
            });
            mailbox.send(|inbox| inbox.completions.push(completion));
        });
        Some(task.abort_handle())
    }

    /// Queues a completion for the turn of its client.
    pub(super) fn push_completion(&mut self, completion: Completion) {
        // A stream that was closed meanwhile has no client, and its completion costs nothing.
        let connection = self.connections.get(completion.key as usize);
        let client = connection.and_then(Connection::client);
        self.completions.push(client, completion);
    }

    /// Handles the next completion. Returns `false` if there is none.
    pub(super) fn handle_completion(&mut self, _: Instant) -> bool {
        let Some(completion) = self.completions.pop() else {
            return false;
        };
        let (key, request_id) = (completion.key as usize, completion.request_id);
        let may_step = match completion.result {
            CompletionResult::Page(fetch, page) => self.apply_page(key, request_id, fetch, page),
            CompletionResult::Settled(settlements) => {
                self.apply_settlements(key, request_id, settlements)
            }
        };
        if may_step {
            self.step(key);
        }
        true
    }

    /// Applies the result of a page read. Returns whether the stream may take a step.
    fn apply_page(
        &mut self,
        key: usize,
        request_id: u64,
        fetch: Fetch,
        page: Result<SharedPage, BrokerError>,
    ) -> bool {
        let now = self.now;
        let Some((connection, watched)) = self.connection_and_view(key) else {
            return false;
        };
        if !connection.finish_fetching(request_id, fetch) {
            return false;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                watched.view.log_damage(&error, now);
                return true;
            }
        };
        // A blocked stream must not hold a page. It reads the page again when its socket has room.
        if connection.is_blocked() {
            return false;
        }
        let transition = watched.view.apply_page(&connection.state, fetch, &page);
        if let Some(next_state) = transition.next_state {
            connection.state = next_state;
        }
        let view = connection.view as usize;
        self.record_use(view);
        match transition.action {
            Action::Send(chunk) => self.send_chunk(key, &chunk),
            _ => true,
        }
    }

    /// Applies the end of the wait for `until`. Returns whether the stream may take a step.
    fn apply_settlements(
        &mut self,
        key: usize,
        request_id: u64,
        settlements: Vec<Settlement>,
    ) -> bool {
        let Some((connection, watched)) = self.connection_and_view(key) else {
            return false;
        };
        if !connection.finish_settling(request_id) {
            return false;
        }
        let mut subscription = connection.state.subscription.clone();
        subscription.set_settlements(settlements);
        connection.state = watched.view.intern_state(subscription);
        let view = connection.view as usize;
        self.record_use(view);
        true
    }
}
