//! Pages that streams wait for, and what else is answered to them.

use std::time::Instant;

use super::{Reactor, small};
use crate::{
    broker::BrokerError,
    channel::multi::Fetch,
    fanout::{
        page_cache::PageKey,
        thread::{Completed, Completion},
        view::Action,
    },
};

impl Reactor<'_> {
    pub(super) fn fetch(&mut self, key: usize, fetch: Fetch) {
        let subscriber = &mut self.subscribers[key];
        let (Some(watched), Ok(small_key)) = (self.views.get(subscriber.view as usize), small(key))
        else {
            return;
        };
        let ask = PageKey {
            channel: watched.view.view_key.channels[fetch.nth].clone(),
            from: fetch.from,
            events_max: subscriber.state.subscription.page_events_max(),
            epoch: fetch.epoch,
        };
        let request_id = self.mailbox.request_id();
        subscriber.set_fetching(Some((request_id, fetch)));
        if let Some(page) = self.context.pages.cached(&ask) {
            let what = Completed::Page(fetch, Ok(page));
            return self.completions.push_back(Completion {
                key: small_key,
                request_id,
                what,
            });
        }
        let (pages, mailbox) = (self.context.pages.clone(), self.mailbox.clone());
        self.context.runtime.spawn(async move {
            let what = Completed::Page(fetch, pages.read(ask).await);
            mailbox.send(|inbox| {
                inbox.completions.push(Completion {
                    key: small_key,
                    request_id,
                    what,
                })
            });
        });
    }

    pub(super) fn handle_completion(&mut self, _: Instant) -> bool {
        let Some(Completion {
            key,
            request_id,
            what,
        }) = self.completions.pop_front()
        else {
            return false;
        };
        let key = key as usize;
        // The stream may be gone, and its key another's.
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return true;
        };
        let Some(watched) = self.views.get_mut(subscriber.view as usize) else {
            return true;
        };
        self.touched.push(subscriber.view as usize);
        match what {
            Completed::Settled(settlements) if subscriber.take_settling(request_id) => {
                let mut subscription = subscriber.state.subscription.clone();
                subscription.set_settlements(settlements);
                subscriber.state = watched.view.intern_state(subscription);
            }
            Completed::Page(fetch, page) if subscriber.fetching() == Some((request_id, fetch)) => {
                subscriber.set_fetching(None);
                match page {
                    // One whose socket is full holds no page: it asks again when it has room.
                    Ok(_) if subscriber.is_blocked() => return true,
                    Ok(page) => {
                        let transition = watched.view.page(&subscriber.state, fetch, &page);
                        if let Some(then) = transition.next_state {
                            subscriber.state = then;
                        }
                        if let Action::Write(said) = transition.action
                            && !self.send(key, &said)
                        {
                            return true;
                        }
                    }
                    Err(error) => self.not_read(key, &error),
                }
            }
            _ => return true,
        }
        self.step(key);
        true
    }

    pub(super) fn not_read(&mut self, key: usize, error: &BrokerError) {
        let view = self
            .subscribers
            .get(key)
            .map(|subscriber| subscriber.view as usize);
        if let Some(watched) = view.and_then(|view| self.views.get_mut(view))
            && matches!(error, BrokerError::Damaged(_))
            && !std::mem::replace(&mut watched.view.said_damaged, true)
        {
            tracing::error!(channels = ?watched.view.view_key.channels, %error, "subscribers cannot be served from history");
        }
    }
}
