//! Pages that streams wait for, and what else is answered to them.

use std::time::Instant;

use super::{Reactor, small};
use crate::{
    broker::BrokerError,
    channel::multi::Fetch,
    fanout::{
        page_cache::PageKey,
        threads::{Answer, Answered},
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
        let ticket = self.door.ticket();
        subscriber.set_fetching(Some((ticket, fetch)));
        if let Some(page) = self.parts.pages.cached(&ask) {
            let what = Answered::Page(fetch, Ok(page));
            return self.answers.push_back(Answer {
                key: small_key,
                ticket,
                what,
            });
        }
        let (pages, door) = (self.parts.pages.clone(), self.door.clone());
        self.parts.runtime.spawn(async move {
            let what = Answered::Page(fetch, pages.read(ask).await);
            door.put(|post| {
                post.answers.push(Answer {
                    key: small_key,
                    ticket,
                    what,
                })
            });
        });
    }

    pub(super) fn take_answer(&mut self, _: Instant) -> bool {
        let Some(Answer { key, ticket, what }) = self.answers.pop_front() else {
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
            Answered::Settled(settlements) if subscriber.take_settling(ticket) => {
                let mut subscription = subscriber.state.subscription.clone();
                subscription.settle(settlements);
                subscriber.state = watched.view.intern_state(subscription);
            }
            Answered::Page(fetch, page) if subscriber.fetching() == Some((ticket, fetch)) => {
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
                            && !self.say(key, &said)
                        {
                            return true;
                        }
                    }
                    Err(error) => self.not_read(key, &error),
                }
            }
            _ => return true,
        }
        self.drive(key);
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
