//! What the groups of a streaming publish have to do with one another.

use crate::{
    broker::lifecycle::{Condition, Written},
    http::api::idempotency::Target,
};

/// The target of the next group.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    target: Target,
}

impl Chain {
    pub(super) const fn new(target: Target) -> Self {
        Self { target }
    }

    /// Returns the target of the next group. Only the last one closes the channel.
    pub(super) fn target(&self, is_last: bool) -> Target {
        let mut target = self.target.clone();
        target.close = target.close.filter(|_| is_last);
        target
    }

    /// Records what a group has stored: the next one belongs to the same incarnation, and follows it
    /// at once if the publish has a condition. Returns whether it was the first group.
    pub(super) fn record(&mut self, written: &Written) -> bool {
        let new = written.outcomes.iter().filter(|outcome| !outcome.duplicate);
        let newest = new.map(|outcome| outcome.ids.last).max();
        if let (Some(_), Some(newest)) = (self.target.condition, newest) {
            self.target.condition = Some(Condition::Newest(newest));
        }
        self.target
            .incarnation
            .replace(written.incarnation)
            .is_none()
    }
}
