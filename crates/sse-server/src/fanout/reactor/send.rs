//! What is done for one stream: it is asked what it wants to say, written to, and closed.

use std::{io, time::Instant};

use bytes::Bytes;
use mio::event::Event;

use super::{CHUNKS_IN_A_ROW, Pass, Reactor};
use crate::fanout::{
    stall::retry_interval,
    subscriber::{Closed, Written},
    view::{Action, EncodedChunk},
};

impl Reactor<'_> {
    /// Does for a stream what is to be done now.
    pub(super) fn step(&mut self, key: usize) {
        for _ in 0..CHUNKS_IN_A_ROW {
            let Some(subscriber) = self.subscribers.get_mut(key) else {
                return;
            };
            if subscriber.is_blocked() {
                return;
            }
            let Some(watched) = self.views.get_mut(subscriber.view as usize) else {
                return;
            };
            let view = &mut watched.view;
            if watched.pass == Pass::None {
                self.touched.push(subscriber.view as usize);
            }
            let transition = match subscriber.fetching() {
                None => view.next(&subscriber.state),
                Some(_) if view.channels.len() == 1 => return,
                Some((_, fetch)) => view.next_without(&subscriber.state, fetch.nth),
            };
            if let Some(then) = transition.next_state {
                subscriber.guard.behind(then.subscription.is_behind());
                subscriber.state = then;
            }
            match transition.action {
                Action::Write(said) => {
                    if !self.send(key, &said) {
                        return;
                    }
                }
                Action::Fetch(fetch) => self.fetch(key, fetch),
                Action::Wait => return,
                Action::End => return self.end(key),
            }
        }
        self.queue(key);
    }

    /// Writes to a stream; whether it takes more.
    pub(super) fn send(&mut self, key: usize, said: &EncodedChunk) -> bool {
        let tick = self.wheel.tick(self.now);
        let subscriber = &mut self.subscribers[key];
        subscriber.last_write = tick;
        self.unreported.0 += said.events;
        self.unreported.1 += said.len();
        if let Some(reason) = said.gap {
            subscriber.guard.gap(reason);
        }
        let written = subscriber.send(said, self.now);
        self.wrote(key, &written)
    }

    /// Whether a stream takes more.
    pub(super) fn wrote(&mut self, key: usize, written: &io::Result<Written>) -> bool {
        match written {
            Ok(Written::All) => return true,
            Ok(Written::Blocked) => {
                if self.blocked.is_empty() {
                    self.stalled_look =
                        self.now + retry_interval(self.context.settings.write_timeout);
                }
                self.blocked.insert(key);
            }
            Err(_) => self.close(key, Closed::Client),
        }
        false
    }

    pub(super) fn queue(&mut self, key: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(key)
            && !std::mem::replace(&mut subscriber.is_queued, true)
        {
            self.queued.push_back(key);
        }
    }

    /// Goes on with a stream that had more to do.
    pub(super) fn resume_queued(&mut self, _: Instant) -> bool {
        let Some(key) = self.queued.pop_front() else {
            return false;
        };
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.is_queued = false;
            self.step(key);
        }
        true
    }

    /// Everything that is wanted was sent: says where that was, and ends the stream.
    pub(super) fn end(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let mut subscription = subscriber.state.subscription.clone();
        let told = subscription.take_unsent_cursor().is_some();
        let mut last = Vec::new();
        if told && let Some(watched) = self.views.get_mut(subscriber.view as usize) {
            let transition = watched.view.heartbeat(&subscriber.state);
            if let Action::Write(said) = transition.action {
                last.extend_from_slice(said.framed(subscriber.framing));
                self.unreported.1 += said.len();
            }
        }
        last.extend_from_slice(subscriber.framing.terminator());
        subscriber.end();
        let written = subscriber.write(&Bytes::from(last), self.now);
        if self.wrote(key, &written) {
            self.close(key, Closed::Ended);
        }
    }

    pub(super) fn close(&mut self, key: usize, reason: Closed) {
        let Some(mut subscriber) = self.subscribers.try_remove(key) else {
            return;
        };
        self.blocked.remove(&key);
        let view = subscriber.view as usize;
        if let Some(watched) = self.views.get_mut(view) {
            if let Some(moved) = watched.view.remove(subscriber.place) {
                self.subscribers[moved as usize].place = subscriber.place;
            }
            if watched.view.members.is_empty() {
                let watched = self.views.remove(view);
                self.by_key.remove(&watched.view.view_key);
            }
        }
        // What is left unread would make the end a reset, which may overtake what was sent.
        let _ = subscriber.discard();
        let _ = subscriber.socket.shutdown(std::net::Shutdown::Write);
        self.context.metrics.closed(reason.as_str());
    }

    pub(super) fn socket_ready(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let has_news = event.is_readable() || event.is_read_closed() || event.is_error();
        if has_news && let Err(reason) = subscriber.discard() {
            return self.close(key, reason);
        }
        if event.is_writable() && subscriber.is_blocked() {
            self.flush(key);
        }
    }

    /// Goes on with what was begun, and then with the rest.
    pub(super) fn flush(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        match subscriber.flush(self.now) {
            Ok(Written::Blocked) => {}
            Ok(Written::All) => {
                let is_ending = subscriber.is_ending();
                self.blocked.remove(&key);
                if is_ending {
                    self.close(key, Closed::Ended);
                } else {
                    self.queue(key);
                }
            }
            Err(_) => self.close(key, Closed::Client),
        }
    }
}
