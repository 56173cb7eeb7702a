//! The real [`Feed`] and [`Tail`] against a model of an in-process log that hands over what it has
//! committed, while reads are in progress, commits fail and the file is opened again.
//!
//! At every moment the tail must have every event of the log between its floor and its end, and
//! nothing else; and once nothing is in flight, its end must be that of the log.

use std::{collections::VecDeque, num::NonZeroUsize};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use sse_proto::{Channel, Event, EventId};
use sse_server::{
    broker::{
        Appended, CommittedGroup, Page, PageLimits, Stored,
        idempotency::{AppendItem, AppendOutcome},
    },
    channel::{
        Tail, TailLimits, TailMemory,
        feed::{FeedStep, read_after},
        feed_state::{Feed, FeedPosition},
    },
};

use crate::model::Log;

/// A defect of the thread that hands over, or of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// Two groups are swapped, each with the predecessor of the other.
    SwapsTwo,
    /// A group is dropped, and the next one has its predecessor.
    DropsOne,
    /// The group of a commit that was rolled back is handed over.
    HandsOverRolledBack,
    /// A group is appended whatever the end of the tail is.
    IgnoresPrevious,
    /// A group is appended while a task reads.
    IgnoresReads,
}

/// A step of the test.
#[derive(Debug, Clone)]
enum Action {
    /// An append is committed.
    Commit { count: usize, pause_ms: u64 },
    /// A commit fails, and the log is opened again. Its events are in the file all the same, or not.
    FailCommit { count: usize, is_kept: bool },
    /// One of the committed groups is handed over. `--memory` does not keep their order.
    HandOver { nth: usize },
    /// The task of the feed reads a page.
    Read { limit: usize },
    /// The task applies the page that it has read.
    Apply,
    /// A needless notification.
    Notify,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1_usize..4, 0_u64..3).prop_map(|(count, pause_ms)| Action::Commit { count, pause_ms }),
        1 => (1_usize..3, any::<bool>())
            .prop_map(|(count, is_kept)| Action::FailCommit { count, is_kept }),
        6 => prop_oneof![4 => Just(0_usize), 1 => 1_usize..3].prop_map(|nth| Action::HandOver { nth }),
        3 => (1_usize..4).prop_map(|limit| Action::Read { limit }),
        3 => Just(Action::Apply),
        1 => Just(Action::Notify),
    ]
}

/// A group that waits to be handed over.
#[derive(Debug, Clone)]
struct Group {
    previous: EventId,
    reopenings: u64,
    ids: Appended,
    item: AppendItem,
}

impl Group {
    fn new(previous: EventId, reopenings: u64, stored: &[Stored]) -> Self {
        let event = |event: &Stored| Event {
            kind: event.kind.parse().unwrap(),
            data: event.data.clone(),
        };
        let (first, last) = (stored[0].id, stored[stored.len() - 1].id);
        Self {
            previous,
            reopenings,
            ids: Appended { first, last },
            item: AppendItem {
                events: stored.iter().map(event).collect(),
                idempotency: None,
            },
        }
    }
}

/// A log and the feed of its tail.
struct System {
    log: Log,
    reopenings: u64,
    pending: VecDeque<Group>,
    tail: Tail,
    feed: Feed,
    /// Where the task reads next; `None` if no task reads.
    reading: Option<FeedPosition>,
    /// The page that the task has read, and how many times the log had been opened again before.
    read: Option<(FeedStep, u64)>,
    mutation: Mutation,
}

impl System {
    fn new(mutation: Mutation) -> Self {
        let limits = TailLimits {
            events_max: NonZeroUsize::new(4).unwrap(),
            bytes_max: usize::MAX,
        };
        let mut system = Self {
            log: Log::new(Channel::default_channel()),
            reopenings: 0,
            pending: VecDeque::new(),
            tail: Tail::new(limits, TailMemory::unlimited()),
            feed: Feed::default(),
            reading: None,
            read: None,
            mutation,
        };
        system.notify();
        system
    }

    /// Stages an append. Returns its group, whose events have consecutive ids.
    fn append(&mut self, count: usize, pause_ms: u64) -> Group {
        let (previous, first) = (self.log.last(), self.log.kept.len());
        self.log.append(pause_ms);
        (1..count).for_each(|_| self.log.append(0));
        Group::new(previous, self.reopenings, &self.log.kept[first..])
    }

    fn fail_commit(&mut self, count: usize, is_kept: bool) {
        // The writer has handed over every earlier group.
        while !self.pending.is_empty() {
            self.hand_over(0);
        }
        let last = self.log.last();
        let group = self.append(count, 1);
        if !is_kept {
            if self.mutation == Mutation::HandsOverRolledBack {
                self.pending.push_back(group);
                self.hand_over(0);
            }
            self.log.roll_back(count, last);
        }
        self.reopenings += 1;
        self.notify();
    }

    fn notify(&mut self) {
        if let Some(position) = self.feed.start_read() {
            self.reading = Some(position);
        }
    }

    fn hand_over(&mut self, nth: usize) {
        if nth + 1 < self.pending.len() {
            self.mutate_two(nth);
        }
        let Some(group) = self.pending.remove(nth) else {
            return;
        };
        let outcomes = [AppendOutcome {
            ids: group.ids,
            duplicate: false,
        }];
        let items = [group.item];
        let committed = CommittedGroup::new(group.previous, group.reopenings, &items, &outcomes);
        let ignores_check = match self.mutation {
            Mutation::IgnoresPrevious => self.reading.is_none(),
            Mutation::IgnoresReads => self.tail.frames().end() == group.previous,
            _ => false,
        };
        if ignores_check {
            let events = committed.events().unwrap();
            self.tail.update(|frames| frames.push(events));
        } else if !self.feed.take_group(&committed, &self.tail) {
            self.notify();
        }
    }

    /// Applies a mutation that concerns a group and the one after it.
    fn mutate_two(&mut self, nth: usize) {
        let previous = self.pending[nth].previous;
        match self.mutation {
            Mutation::SwapsTwo => {
                self.pending.swap(nth, nth + 1);
                self.pending[nth].previous = previous;
                self.pending[nth + 1].previous = self.pending[nth].ids.last;
            }
            Mutation::DropsOne => {
                self.pending.remove(nth);
                self.pending[nth].previous = previous;
            }
            _ => {}
        }
    }

    /// Reads a page, if a task is to read and has not done so.
    fn read(&mut self, limit: usize) {
        let (Some(position), None) = (self.reading, &self.read) else {
            return;
        };
        let step = match position {
            FeedPosition::Unknown => FeedStep::join(self.log.last()),
            FeedPosition::After(id) => FeedStep::from_page(id, self.page(id, limit)),
        };
        self.read = Some((step, self.reopenings));
    }

    fn page(&self, after: EventId, limit: usize) -> Page {
        let limits = PageLimits {
            events_max: limit,
            bytes_max: usize::MAX,
        };
        self.log.read(read_after(after), limits)
    }

    /// Applies the page that was read. Returns whether there was one.
    fn apply(&mut self) -> bool {
        let Some((step, reopenings)) = self.read.take() else {
            return false;
        };
        let FeedStep { change, end, more } = step;
        self.tail.update(|frames| change.apply(frames));
        let is_done = !more && self.feed.finish_read(end, reopenings);
        self.reading = (!is_done).then_some(FeedPosition::After(end));
        true
    }

    /// Checks that the tail has what the log has, between its floor and its end.
    fn check(&self) -> Result<(), TestCaseError> {
        let frames = self.tail.frames();
        let (floor, end) = (frames.floor(), frames.end());
        let got: Vec<EventId> = frames.after(EventId::ZERO).map(|frame| frame.id).collect();
        let expected = self.log.kept.iter().map(|event| event.id);
        let expected = expected.filter(|id| *id > floor && *id <= end);
        prop_assert_eq!(got, expected.collect::<Vec<_>>());
        Ok(())
    }
}

fn play(actions: &[Action], mutation: Mutation) -> Result<(), TestCaseError> {
    let mut system = System::new(mutation);
    for action in actions {
        match *action {
            Action::Commit { count, pause_ms } => {
                let group = system.append(count, pause_ms);
                system.pending.push_back(group);
            }
            Action::FailCommit { count, is_kept } => system.fail_commit(count, is_kept),
            Action::HandOver { nth } => system.hand_over(nth),
            Action::Read { limit } => system.read(limit),
            Action::Apply => drop(system.apply()),
            Action::Notify => system.notify(),
        }
        system.check()?;
    }
    while !system.pending.is_empty() {
        system.hand_over(0);
        system.check()?;
    }
    system.read(100);
    while system.apply() {
        system.read(100);
    }
    system.check()?;
    let end = system.tail.frames().end();
    prop_assert_eq!(end, system.log.last(), "the tail is behind the log");
    Ok(())
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..80)
}

proptest! {
    #![proptest_config(Config::with_cases(2_000))]

    #[test]
    fn a_tail_that_is_handed_groups_has_what_the_log_has(actions in actions()) {
        play(&actions, Mutation::None)?;
    }
}

#[test]
fn a_hand_over_of_a_wrong_group_is_found() {
    for mutation in [
        Mutation::SwapsTwo,
        Mutation::DropsOne,
        Mutation::HandsOverRolledBack,
        Mutation::IgnoresPrevious,
        Mutation::IgnoresReads,
    ] {
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(2_000)
        };
        let found = TestRunner::new(config).run(&actions(), |actions| play(&actions, mutation));
        assert!(
            matches!(found, Err(TestError::Fail(..))),
            "{mutation:?} was not found: {found:?}"
        );
    }
}
