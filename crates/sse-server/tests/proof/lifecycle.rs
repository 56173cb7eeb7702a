//! The real log in memory and the real [`Subscription`] against a model, while a channel is closed,
//! deleted, created again, trimmed, expired and written to on conditions, and readers are cut and
//! moved.
//!
//! Each reader follows the channel as an `EventSource` does. It must get every record after its
//! start once and in order (events, and the end of each incarnation), or a gap where records are
//! gone, and it must stop after an end. Each defect in [`Mutation`] must be found.

use std::num::NonZeroUsize;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use sse_proto::{
    Channel, Cursor, Event, EventId, Position,
    api::GapReason,
    blocks::{BlockSplitter, Item},
};
use sse_server::{
    broker::{
        Broker, Continuity, Page, PageLimits, Publisher, ReadFrom, Retention, Stored,
        idempotency::{AppendItem, KeyLimits},
        lifecycle::{ChannelSettings, Condition, Write},
        memory::Memory,
    },
    channel::{Frames, IdAffixes, Step, Subscription, SubscriptionOptions, TailLimits},
    metrics::Metrics,
};
use tokio::runtime::{Builder, Runtime};

const READERS: usize = 3;
const NODES: usize = 2;
/// The `ttl` and `ttl_closed` of the channel.
const TTL_MS: u64 = 60_000;
const TTLS: ChannelSettings = ChannelSettings {
    ttl_ms: Some(TTL_MS),
    ttl_closed_ms: Some(TTL_MS),
    ..ChannelSettings::NONE
};
const SMALL_PAGE: PageLimits = PageLimits {
    events_max: 3,
    bytes_max: usize::MAX,
};

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// A page does not contain the end.
    DropsEnd,
    /// The end comes before the last events.
    EndComesEarly,
    /// A page after a deletion claims to continue the position.
    HidesDeletion,
    /// A client that has seen the end gets another stream.
    ForgetsEnd,
    /// The check of a condition and the append are two steps, so another write comes between.
    ChecksConditionEarly,
    /// A deleted name begins again without a look at its tombstone.
    ForgetsTombstone,
    /// The `ttl` of an open channel deletes it.
    TtlDeletes,
    /// A page after an expiry claims to continue the position.
    HidesExpiry,
    /// A channel expires before its time.
    ExpiresEarly,
}

/// A step of the test.
#[derive(Debug, Clone)]
enum Action {
    Append {
        count: usize,
        closes: bool,
    },
    /// Writes on the condition that nothing was stored since the newest record, which is true or not.
    AppendIf {
        is_true: bool,
    },
    Close,
    Delete,
    /// Time passes: more than the `ttl`, or half of it.
    Expire {
        is_long: bool,
    },
    /// Keeps only this many events from the next append on.
    Keep {
        count: u64,
    },
    Feed {
        node: usize,
    },
    RestartNode {
        node: usize,
    },
    Read {
        reader: usize,
        steps: usize,
    },
    Reconnect {
        reader: usize,
        node: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let (reader, node) = (0..READERS, 0..NODES);
    prop_oneof![
        6 => (1_usize..5, prop::bool::weighted(0.2)).prop_map(|(count, closes)| Action::Append { count, closes }),
        2 => any::<bool>().prop_map(|is_true| Action::AppendIf { is_true }),
        1 => Just(Action::Close),
        2 => Just(Action::Delete),
        2 => prop::bool::weighted(0.7).prop_map(|is_long| Action::Expire { is_long }),
        1 => (1_u64..4).prop_map(|count| Action::Keep { count }),
        5 => node.clone().prop_map(|node| Action::Feed { node }),
        1 => node.clone().prop_map(|node| Action::RestartNode { node }),
        8 => (reader.clone(), 1_usize..5).prop_map(|(reader, steps)| Action::Read { reader, steps }),
        3 => (reader, node).prop_map(|(reader, node)| Action::Reconnect { reader, node }),
    ]
}

/// The log, and every record that it ever had.
struct Log {
    memory: Memory,
    broker: Broker,
    runtime: Runtime,
    channel: Channel,
    /// Events and ends, in order.
    records: Vec<EventId>,
    /// The ends among them.
    ends: Vec<EventId>,
    /// The end of the present incarnation, if it is closed.
    end: Option<EventId>,
    exists: bool,
    mutation: Mutation,
}

impl Log {
    fn new(mutation: Mutation) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let retention = Retention {
            events_max: NonZeroUsize::new(1000).unwrap(),
            age_max: std::time::Duration::from_hours(1),
            bytes_max: u64::MAX,
            channels_max: 1000,
            keys: KeyLimits {
                window: std::time::Duration::from_mins(1),
                keys_max: 10,
                bytes_max: u64::MAX,
            },
        };
        let memory = Memory::new(retention, Metrics::new(), runtime.handle());
        Self {
            broker: Broker::Memory(memory.clone()),
            memory,
            runtime,
            channel: Channel::default_channel(),
            records: Vec::new(),
            ends: Vec::new(),
            end: None,
            exists: false,
            mutation,
        }
    }

    /// Writes, and returns whether the write was carried out.
    fn write(&mut self, count: usize, closes: bool, condition: Option<Condition>) -> bool {
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "x".into(),
        };
        let item = (count > 0).then(|| AppendItem {
            events: vec![event; count],
            idempotency: None,
        });
        let write = Write {
            items: item.into_iter().collect(),
            close: closes.then(|| "done".parse().unwrap()),
            condition: condition.filter(|_| self.mutation != Mutation::ChecksConditionEarly),
            settings: TTLS,
            ..Write::default()
        };
        let write = self
            .broker
            .write(Publisher::default(), &self.channel, write);
        let Ok(written) = self.runtime.block_on(write) else {
            return false;
        };
        let is_new = self.end.is_none();
        for outcome in &written.outcomes {
            let from = ReadFrom::Position(Position::At(outcome.ids.first));
            let page = self.page(
                from,
                PageLimits {
                    events_max: 100,
                    ..SMALL_PAGE
                },
            );
            let events = page.events.iter().filter(|event| event.is_event());
            let kept: Vec<_> = events.map(|event| event.id).collect();
            // Events that the same write trimmed are not readable any more.
            if kept.first() != Some(&outcome.ids.first) {
                self.records.push(outcome.ids.first);
            }
            self.records.extend(kept);
        }
        if is_new {
            self.records.extend(written.end);
            self.ends.extend(written.end);
            self.end = written.end;
        }
        self.exists = true;
        true
    }

    fn delete(&mut self) {
        let deleted = self.broker.delete(&self.channel);
        let tombstone = self.runtime.block_on(deleted).unwrap();
        if let Some(tombstone) = tombstone
            && self.exists
            && self.end.is_none()
        {
            self.records.push(tombstone.end);
            self.ends.push(tombstone.end);
        }
        (self.exists, self.end) = (false, None);
    }

    /// Lets time pass. A closed channel that is due is deleted, and an open one loses its events.
    fn expire(&mut self, is_long: bool) {
        let pass_ms = if is_long { 2 * TTL_MS } else { TTL_MS / 2 };
        let at_ms = self.runtime.block_on(self.broker.now_ms()).unwrap() + pass_ms;
        let is_due = self.newest().ms + TTL_MS <= at_ms;
        match self.mutation {
            Mutation::TtlDeletes if is_due && self.end.is_none() => {
                let deleted = self.broker.delete(&self.channel);
                self.runtime.block_on(deleted).unwrap();
            }
            Mutation::ExpiresEarly => self.memory.expire_at(at_ms + TTL_MS),
            _ => self.memory.expire_at(at_ms),
        }
        if is_due && self.end.is_some() {
            (self.exists, self.end) = (false, None);
        }
    }

    fn keep(&self, count: u64) {
        let settings = ChannelSettings {
            history_events: Some(count),
            ..TTLS
        };
        if self.exists {
            let publisher = Publisher::default();
            let configured = self.broker.configure(publisher, &self.channel, settings);
            // A closed channel keeps its settings.
            let _ = self.runtime.block_on(configured);
        }
    }

    fn last_id(&self) -> EventId {
        self.runtime
            .block_on(self.broker.last_id(&self.channel))
            .unwrap()
    }

    fn newest(&self) -> EventId {
        let described = self.runtime.block_on(self.broker.describe(&self.channel));
        described
            .unwrap()
            .map_or(EventId::ZERO, |channel| channel.newest)
    }

    fn is_ended(&self, position: Position) -> bool {
        let ended = self.broker.is_ended(&self.channel, position);
        self.mutation != Mutation::ForgetsEnd && self.runtime.block_on(ended).unwrap()
    }

    fn page(&self, from: ReadFrom, limits: PageLimits) -> Page {
        let read = self.broker.read(&self.channel, from, limits);
        self.runtime.block_on(read).unwrap()
    }

    /// Reads a page for a reader or a tail, with the defect.
    fn read(&self, from: ReadFrom) -> Page {
        let mut page = self.page(from, SMALL_PAGE);
        let is_deleted = |start| {
            matches!(
                start,
                Continuity::Gap {
                    reason: GapReason::Deleted,
                    ..
                }
            )
        };
        match self.mutation {
            Mutation::DropsEnd => page.events.retain(|record| !record.is_end()),
            Mutation::EndComesEarly if page.events.last().is_some_and(Stored::is_end) => {
                page.events.rotate_right(1);
            }
            Mutation::HidesDeletion if is_deleted(page.start) => {
                page.start = Continuity::Contiguous;
            }
            Mutation::HidesExpiry if page.events.is_empty() => {
                page.start = Continuity::Contiguous;
            }
            Mutation::ForgetsTombstone if is_deleted(page.start) && self.exists => {
                page = self.page(ReadFrom::Oldest, SMALL_PAGE);
            }
            _ => {}
        }
        page
    }
}

/// The tail of a node.
struct Node(Frames);

impl Node {
    fn join(log: &Log, tail_events: usize) -> Self {
        let mut frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::new(tail_events).unwrap(),
            bytes_max: usize::MAX,
        });
        frames.join(log.last_id());
        Self(frames)
    }

    /// Reads on, as the feed of a channel does. Returns whether the tail has changed.
    fn feed(&mut self, log: &Log) -> bool {
        let page = log.read(ReadFrom::Position(Position::After(self.0.end())));
        match page.start {
            Continuity::Contiguous if page.events.is_empty() => return false,
            Continuity::Contiguous => self.0.push(page.events),
            Continuity::Gap { .. } => self.0.join(page.last),
        }
        true
    }
}

/// What a reader received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Record(EventId),
    Gap,
}

struct Reader {
    node: usize,
    subscription: Subscription,
    asked: Option<(ReadFrom, u64)>,
    last_id: String,
    start: EventId,
    received: Vec<Received>,
    /// The client got a 204, or its stream ended after the end of the channel.
    is_finished: bool,
}

fn subscription(position: Position) -> Subscription {
    let options = SubscriptionOptions::default();
    Subscription::new(Channel::default_channel(), &options, Ok(position))
}

impl Reader {
    fn new(log: &Log, node: usize) -> Self {
        let start = log.last_id();
        Self {
            node,
            subscription: subscription(Position::After(start)),
            asked: None,
            last_id: start.to_string(),
            start,
            received: Vec::new(),
            is_finished: false,
        }
    }

    fn reconnect(&mut self, log: &Log, node: usize) {
        let Ok(Cursor::Plain(position)) = self.last_id.parse() else {
            panic!("{:?} is no position", self.last_id)
        };
        (self.node, self.asked) = (node, None);
        self.is_finished |= log.is_ended(position);
        self.subscription = subscription(position);
    }

    /// Takes one step; returns `false` if there was nothing to do.
    fn step(&mut self, log: &Log, nodes: &[Node]) -> bool {
        if self.is_finished {
            return false;
        }
        let frames = &nodes[self.node].0;
        if let Some((from, generation)) = self.asked.take() {
            let page = log.read(from);
            let chunk = self
                .subscription
                .apply_page(&page, generation, IdAffixes::NONE);
            if let Some(chunk) = chunk {
                self.take(&chunk.bytes);
            }
            return true;
        }
        match self.subscription.next(frames, IdAffixes::NONE) {
            Step::Write(chunk) => self.take(&chunk.bytes),
            Step::Fetch(from) => self.asked = Some((from, frames.generation())),
            Step::Wait => return false,
            // The client reconnects, and gets a 204, or what followed if the channel was deleted and
            // created since.
            Step::End => self.reconnect(log, self.node),
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut splitter = BlockSplitter::new(1 << 20);
        splitter.push(bytes).unwrap();
        while let Some(item) = splitter.next_item() {
            let Item::Block(block) = item else { continue };
            let id = block.id.clone().unwrap();
            self.received.push(if block.text.contains("event: gap\n") {
                Received::Gap
            } else {
                Received::Record(id.parse().unwrap())
            });
            self.last_id = id;
        }
    }

    /// Checks what the reader received, after it has caught up.
    fn judge(&self, log: &Log) -> Result<(), TestCaseError> {
        let (mut at, mut has_gap) = (self.start, false);
        for received in &self.received {
            match received {
                Received::Gap => has_gap = true,
                Received::Record(id) => {
                    prop_assert!(*id > at, "{id} comes after {at}");
                    prop_assert!(log.records.contains(id), "{id} was never published");
                    let missed = log
                        .records
                        .iter()
                        .filter(|record| at < **record && *record < id);
                    let missed = missed.count();
                    prop_assert!(
                        missed == 0 || has_gap,
                        "{missed} records before {id} are missing"
                    );
                    // The log knows only the last end of a deleted channel.
                    let is_true = missed > 0 || log.ends.contains(&at);
                    prop_assert!(is_true || !has_gap, "the gap before {id} is false");
                    (at, has_gap) = (*id, false);
                }
            }
        }
        if self.is_finished {
            return Ok(());
        }
        let rest: Vec<_> = log.records.iter().filter(|record| **record > at).collect();
        prop_assert!(rest.is_empty() || has_gap, "{rest:?} were not received");
        let has_ended = log.end.is_some_and(|end| end > self.start);
        prop_assert!(!has_ended, "the reader does not stop after the end");
        Ok(())
    }
}

/// Runs all actions, lets all readers catch up, and checks what each one received.
fn play(actions: &[Action], mutation: Mutation) -> Result<(), TestCaseError> {
    let mut log = Log::new(mutation);
    let mut nodes = [Node::join(&log, 4), Node::join(&log, 2)];
    let mut readers: Vec<_> = (0..READERS)
        .map(|number| Reader::new(&log, number % NODES))
        .collect();
    for action in actions {
        match *action {
            Action::Append { count, closes } => drop(log.write(count, closes, None)),
            Action::AppendIf { is_true } => {
                let newest = log.newest();
                let id = if is_true { newest } else { newest.before() };
                let can_hold = log.exists && log.end.is_none() && is_true;
                let is_stored = log.write(1, false, Some(Condition::Newest(id)));
                prop_assert_eq!(is_stored, can_hold, "a condition that is {}", is_true);
            }
            Action::Close => drop(log.write(0, true, None)),
            Action::Delete => log.delete(),
            Action::Expire { is_long } => log.expire(is_long),
            Action::Keep { count } => log.keep(count),
            Action::Feed { node } => drop(nodes[node].feed(&log)),
            Action::RestartNode { node } => {
                nodes[node] = Node::join(&log, 3);
                for reader in readers.iter_mut().filter(|reader| reader.node == node) {
                    reader.reconnect(&log, node);
                }
            }
            Action::Read { reader, steps } => {
                for _ in 0..steps {
                    readers[reader].step(&log, &nodes);
                }
            }
            Action::Reconnect { reader, node } => readers[reader].reconnect(&log, node),
        }
    }
    for node in &mut nodes {
        (0..1000).take_while(|_| node.feed(&log)).for_each(drop);
    }
    for reader in &mut readers {
        let steps = (0..10_000)
            .take_while(|_| reader.step(&log, &nodes))
            .count();
        prop_assert!(steps < 10_000, "the reader never reaches the end");
        reader.judge(&log)?;
    }
    Ok(())
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..80)
}

proptest! {
    #![proptest_config(Config::with_cases(400))]

    #[test]
    fn every_reader_gets_each_event_and_each_end_once_or_a_true_gap(actions in actions()) {
        play(&actions, Mutation::None)?;
    }
}

#[test]
fn each_defect_of_ends_deletions_conditions_and_expiry_is_found() {
    for mutation in [
        Mutation::DropsEnd,
        Mutation::EndComesEarly,
        Mutation::HidesDeletion,
        Mutation::ForgetsEnd,
        Mutation::ChecksConditionEarly,
        Mutation::ForgetsTombstone,
        Mutation::TtlDeletes,
        Mutation::HidesExpiry,
        Mutation::ExpiresEarly,
    ] {
        let config = Config {
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::with_cases(2000)
        };
        let found = TestRunner::new(config).run(&actions(), |actions| play(&actions, mutation));
        assert!(
            matches!(found, Err(TestError::Fail(..))),
            "{mutation:?} was not found: {found:?}"
        );
    }
}
