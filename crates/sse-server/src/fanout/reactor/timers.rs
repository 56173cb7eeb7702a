//! What happens to streams because time passes: heartbeats to the silent, and an end to the stalled.

use std::time::Instant;

use super::Reactor;
use crate::fanout::{admission::CloseReason, stall::retry_interval, view::Action};

impl Reactor<'_> {
    /// Looks at one stream that may have been silent for long.
    pub(super) fn heartbeat(&mut self, _: Instant) -> bool {
        let Some((small_key, due)) = self.wheel.pop(self.now) else {
            return false;
        };
        let key = small_key as usize;
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return true;
        };
        if subscriber.due != due {
            return true; // of a stream that is gone, whose key another has now
        }
        let mut last_write = subscriber.last_write;
        if self.wheel.is_due(last_write, small_key, due) {
            last_write = self.wheel.tick(self.now);
            if !subscriber.is_blocked() {
                self.send_heartbeat(key);
            }
        }
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.due = self.wheel.file(small_key, last_write, self.now);
        }
        true
    }

    pub(super) fn send_heartbeat(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let Some(watched) = self.views.get_mut(subscriber.view as usize) else {
            return;
        };
        self.touched.push(subscriber.view as usize);
        let transition = watched.view.heartbeat(&subscriber.state);
        if let Some(then) = transition.next_state {
            subscriber.state = then;
        }
        if let Action::Write(said) = transition.action {
            self.send(key, &said);
        }
    }

    /// Closes whoever took nothing for too long. It is offered the rest before, because a socket says that it has room
    /// only when it has much.
    pub(super) fn close_stalled(&mut self) {
        if self.blocked.is_empty() || self.stalled_look > self.now {
            return;
        }
        self.stalled_look = self.now + retry_interval(self.context.settings.write_timeout);
        for key in self.blocked.iter().copied().collect::<Vec<_>>() {
            self.flush(key);
            let write_timeout = self.context.settings.write_timeout;
            if self
                .subscribers
                .get(key)
                .is_some_and(|subscriber| subscriber.is_stalled(self.now, write_timeout))
            {
                self.close(key, CloseReason::Stalled);
            }
        }
    }
}
