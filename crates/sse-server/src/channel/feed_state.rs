//! Feed state: whether a task reads the log for a tail, and which committed groups the tail takes.
//!
//! A notification starts a task that reads the log; [`feed`](super::feed) applies what it reads.
//!
//! An in-process log also hands over each group of events that it has committed. The tail takes the
//! group if it continues the tail, and if no read is in progress; otherwise the log is read:
//!
//! ```text
//! tail 3 4 5   group 6 7, previous is 5            append       3 4 5 6 7
//! tail 3 4 5   group 7, previous is 6              read the log
//! ```

use sse_proto::EventId;

use super::tail::Tail;
use crate::broker::CommittedGroup;

/// Where the next read of the log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedPosition {
    /// At the end of the log, which is not known yet.
    Unknown,
    /// After this event, the end of the tail.
    After(EventId),
}

/// Whether a task reads the log for a tail. A channel without new events has no task.
#[derive(Debug, PartialEq, Eq)]
enum FeedState {
    /// No task reads. Everything before the position is in the tail.
    Idle(FeedPosition),
    /// A task reads. `is_stale` is set if the log has changed since the task began its last read.
    Reading { is_stale: bool },
}

/// How a tail is fed: by the reads of a task, and by committed groups while no task reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Feed {
    state: FeedState,
    /// How many times the log had been opened again when the last read that proved the tail began.
    reopenings: u64,
}

impl Default for Feed {
    /// A feed whose tail is not joined to the log.
    fn default() -> Self {
        Self {
            state: FeedState::Idle(FeedPosition::Unknown),
            reopenings: 0,
        }
    }
}

impl Feed {
    /// Records that the log has changed. Returns where a new task must begin to read, or `None` if
    /// a task reads already.
    pub const fn start_read(&mut self) -> Option<FeedPosition> {
        match &mut self.state {
            FeedState::Reading { is_stale } => {
                *is_stale = true;
                None
            }
            FeedState::Idle(position) => {
                let position = *position;
                self.state = FeedState::Reading { is_stale: false };
                Some(position)
            }
        }
    }

    /// Ends the task after a read that found nothing beyond `end`. Returns `false` if the log has
    /// changed during the read, so that the task must read again.
    ///
    /// `reopenings` is how many times the log had been opened again before the read.
    pub const fn finish_read(&mut self, end: EventId, reopenings: u64) -> bool {
        if matches!(self.state, FeedState::Reading { is_stale: true }) {
            self.state = FeedState::Reading { is_stale: false };
            return false;
        }
        self.state = FeedState::Idle(FeedPosition::After(end));
        self.reopenings = reopenings;
        true
    }

    /// Appends a committed group to the tail, if it continues the tail. Returns whether it does. The
    /// caller notifies the tail's readers then, and reads the log otherwise.
    #[must_use]
    pub fn take_group(&mut self, group: &CommittedGroup<'_>, tail: &Tail) -> bool {
        if !self.accepts(group.previous, group.reopenings) {
            return false;
        }
        let events = group.events().unwrap_or_default();
        let Some(end) = events.last().map(|event| event.id) else {
            return false;
        };
        let is_taken = tail.try_push_group(group.previous, events);
        if is_taken {
            self.state = FeedState::Idle(FeedPosition::After(end));
        }
        is_taken
    }

    /// Returns whether a group continues the tail. `previous` is the last id of the channel before the
    /// group, and `reopenings` how many times the log had been opened again.
    ///
    /// After the log was opened again, only a read proves that the log continues the tail.
    fn accepts(&self, previous: EventId, reopenings: u64) -> bool {
        self.state == FeedState::Idle(FeedPosition::After(previous))
            && self.reopenings == reopenings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    #[test]
    fn a_change_during_a_read_makes_the_task_read_again() {
        let mut feed = Feed::default();
        assert_eq!(feed.start_read(), Some(FeedPosition::Unknown));
        assert_eq!(feed.start_read(), None, "one task reads at a time");
        assert!(!feed.finish_read(id(5), 0));
        assert!(feed.finish_read(id(6), 0));
        assert_eq!(feed.start_read(), Some(FeedPosition::After(id(6))));
    }

    #[test]
    fn a_group_is_accepted_only_at_the_end_of_a_tail_that_nothing_reads_for() {
        let mut feed = Feed::default();
        assert!(!feed.accepts(EventId::ZERO, 0), "the tail is not joined");
        feed.start_read();
        assert!(!feed.accepts(id(5), 0), "a task reads");
        assert!(feed.finish_read(id(5), 0));
        assert!(feed.accepts(id(5), 0));
        assert!(!feed.accepts(id(4), 0) && !feed.accepts(id(6), 0));
    }

    #[test]
    fn after_the_log_was_opened_again_a_read_must_prove_the_tail_first() {
        let mut feed = Feed::default();
        feed.start_read();
        feed.finish_read(id(5), 0);
        assert!(!feed.accepts(id(5), 1));
        feed.start_read();
        feed.finish_read(id(5), 0);
        assert!(!feed.accepts(id(5), 1), "the read began before");
        feed.start_read();
        feed.finish_read(id(5), 1);
        assert!(feed.accepts(id(5), 1));
    }
}
