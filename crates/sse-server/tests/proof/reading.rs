//! The real [`Subscription`] against a model of the log, while events are appended, trimmed,
//! damaged and lost by failovers, and readers are cut and moved.
//!
//! However pages and tails interleave, each reader must get each event once and in order, or a true
//! gap. A subscription whose seam between history and tail is off by one must fail the test.

use std::num::NonZeroUsize;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::Gap,
    blocks::{BlockSplitter, Item},
};
use sse_server::{
    broker::{PageLimits, ReadFrom},
    channel::{Filter, Frames, IdAffixes, Step, Subscription, SubscriptionOptions, TailLimits},
};

use crate::{
    model::{KINDS, Log, Node},
    seen::Seen,
};

const READERS: usize = 3;
const NODES: usize = 2;

/// A defect of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// A page requested after an id starts with the event of that id.
    PageStartsEarly,
    /// A page requested after an id starts one event too late.
    PageStartsLate,
    /// The tail claims to reach one event further back than it does.
    TailSkipsOne,
    /// A gap record is skipped like an event that the filter rejects.
    LeavesOutRecords,
}

/// A step of the test.
#[derive(Debug, Clone)]
enum Action {
    Append {
        count: usize,
        pause_ms: u64,
    },
    Trim {
        count: usize,
    },
    /// Some events become unreadable.
    Damage {
        back: usize,
        count: usize,
    },
    /// The newest entries are lost, and `early` events are published before the loss is detected.
    Failover {
        lost: usize,
        early: usize,
    },
    Feed {
        node: usize,
        count: usize,
    },
    RestartNode {
        node: usize,
    },
    /// A reader takes `steps` steps. A page that it requests arrives in the reader's next step.
    Read {
        reader: usize,
        steps: usize,
    },
    /// A reader's connection breaks, and the reader reconnects to `node` with its last id.
    Reconnect {
        reader: usize,
        node: usize,
    },
    /// A heartbeat sends a reader its position, which the filter may have moved.
    Heartbeat {
        reader: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let (reader, node) = (0..READERS, 0..NODES);
    prop_oneof![
        4 => (1_usize..6, 0_u64..3).prop_map(|(count, pause_ms)| Action::Append { count, pause_ms }),
        1 => (1_usize..5).prop_map(|count| Action::Trim { count }),
        1 => (0_usize..12, 1_usize..4).prop_map(|(back, count)| Action::Damage { back, count }),
        1 => (1_usize..6, 0_usize..3).prop_map(|(lost, early)| Action::Failover { lost, early }),
        4 => (node.clone(), 1_usize..5).prop_map(|(node, count)| Action::Feed { node, count }),
        1 => node.clone().prop_map(|node| Action::RestartNode { node }),
        8 => (reader.clone(), 1_usize..5).prop_map(|(reader, steps)| Action::Read { reader, steps }),
        2 => (reader.clone(), node).prop_map(|(reader, node)| Action::Reconnect { reader, node }),
        1 => reader.prop_map(|reader| Action::Heartbeat { reader }),
    ]
}

/// A reader: its connection, and what it has received over all connections.
struct Reader {
    kinds: Vec<&'static str>,
    node: usize,
    subscription: Subscription,
    /// The requested page, and the tail's generation at the time of the request.
    asked: Option<(ReadFrom, u64)>,
    last_id: String,
    seen: Seen,
}

fn channel() -> Channel {
    Channel::default_channel()
}

impl Reader {
    fn new(kinds: Vec<&'static str>, node: usize) -> Self {
        let subscription = subscription(&kinds, Position::After(EventId::ZERO));
        let (asked, last_id) = (None, EventId::ZERO.to_string());
        Self {
            kinds,
            node,
            subscription,
            asked,
            last_id,
            seen: Seen::default(),
        }
    }

    fn reconnect(&mut self, node: usize) {
        let Ok(Cursor::Plain(position)) = self.last_id.parse() else {
            panic!("{:?} is no position", self.last_id)
        };
        self.node = node;
        self.asked = None;
        self.subscription = subscription(&self.kinds, position);
    }

    /// Runs one step of the reader; returns `false` if there was nothing to do.
    fn step(&mut self, log: &Log, frames: &Frames, mutation: Mutation) -> bool {
        if let Some((from, generation)) = self.asked.take() {
            let page = mutated_read(log, from, mutation);
            if let Some(chunk) = self
                .subscription
                .apply_page(&page, generation, IdAffixes::NONE)
            {
                self.take(&chunk.bytes);
            }
            return true;
        }
        match self.subscription.next(frames, IdAffixes::NONE) {
            Step::Write(chunk) => self.take(&chunk.bytes),
            Step::Fetch(from) => self.asked = Some((from, frames.generation())),
            Step::Wait | Step::End => return false,
        }
        true
    }

    /// Parses received bytes as a client does.
    fn take(&mut self, bytes: &[u8]) {
        let mut splitter = BlockSplitter::new(1 << 20);
        splitter.push(bytes).unwrap();
        while let Some(item) = splitter.next_item() {
            let Item::Block(block) = item else { continue };
            let field = |name: &str| {
                block
                    .text
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
            };
            let id = block.id.clone().unwrap();
            if field("event: ") == "gap" {
                let gap: Gap = serde_json::from_str(field("data: ")).unwrap();
                self.seen.gap(&gap, id.parse().unwrap());
            } else {
                assert_eq!(field("data: "), id, "the event is the one of its id");
                self.seen.event(id.parse().unwrap());
            }
            self.last_id = id;
        }
    }
}

fn subscription(kinds: &[&str], position: Position) -> Subscription {
    let filter = Filter::new(kinds.iter().map(|kind| kind.parse().unwrap()).collect());
    let wanted = SubscriptionOptions {
        filter,
        ..SubscriptionOptions::default()
    };
    Subscription::new(channel(), &wanted, Ok(position))
}

/// Returns a page of at most three events, so that there are many seams. A mutation changes the
/// page as if the subscription had misjudged where history ends and the tail begins.
fn mutated_read(log: &Log, from: ReadFrom, mutation: Mutation) -> sse_server::broker::Page {
    let mut page = log.read(
        from,
        PageLimits {
            events_max: 3,
            bytes_max: usize::MAX,
        },
    );
    let ReadFrom::Position(Position::After(after)) = from else {
        return page;
    };
    if page.start != sse_server::broker::Continuity::Contiguous {
        return page;
    }
    match mutation {
        Mutation::PageStartsEarly => {
            if let Some(event) = log.kept.iter().find(|event| event.id == after) {
                page.events.insert(0, event.clone());
            }
        }
        Mutation::PageStartsLate if page.events.len() > 1 => drop(page.events.remove(0)),
        Mutation::LeavesOutRecords => page.events.retain(|entry| !entry.is_gap()),
        _ => {}
    }
    page
}

/// Returns the tail as a mutated subscription sees it: without the first event after its floor, or
/// without gap records.
fn mutated_frames(log: &Log, node: &Node, mutation: Mutation) -> Option<Frames> {
    let (skipped, with_records) = match mutation {
        Mutation::TailSkipsOne => (1, true),
        Mutation::LeavesOutRecords => (0, false),
        _ => return None,
    };
    let floor = node.frames.floor();
    let mut frames = Frames::new(TailLimits {
        events_max: NonZeroUsize::MAX,
        bytes_max: usize::MAX,
    });
    (0..node.frames.generation()).for_each(|_| frames.join(floor));
    let following = log
        .kept
        .iter()
        .filter(|event| event.id > floor && event.id <= node.frames.end());
    frames.push(
        following
            .filter(|entry| with_records || !entry.is_gap())
            .skip(skipped)
            .cloned()
            .collect(),
    );
    Some(frames)
}

/// Runs all actions, lets all readers catch up, and checks what each reader received.
fn play(actions: &[Action], mutation: Mutation) -> Result<(), TestCaseError> {
    let mut log = Log::new(channel());
    let mut nodes = [Node::join(&log, 4), Node::join(&log, 2)];
    let kinds = [vec![], vec![KINDS[1]], vec![]];
    let mut readers: Vec<Reader> = kinds
        .into_iter()
        .enumerate()
        .map(|(number, kinds)| Reader::new(kinds, number % NODES))
        .collect();
    for action in actions {
        match *action {
            Action::Append { count, pause_ms } => (0..count).for_each(|_| log.append(pause_ms)),
            Action::Trim { count } => log.trim(count),
            Action::Damage { back, count } => log.damage(back, count),
            Action::Failover { lost, early } => log.fail_over(lost, early),
            Action::Feed { node, count } => nodes[node].feed(&log, count),
            Action::RestartNode { node } => {
                nodes[node].restart(&log);
                readers
                    .iter_mut()
                    .filter(|reader| reader.node == node)
                    .for_each(|reader| reader.reconnect(node));
            }
            Action::Read { reader, steps } => {
                for _ in 0..steps {
                    step(&mut readers[reader], &log, &nodes, mutation);
                }
            }
            Action::Reconnect { reader, node } => readers[reader].reconnect(node),
            Action::Heartbeat { reader } => {
                if let Some(position) = readers[reader].subscription.take_unsent_position() {
                    readers[reader].last_id = position.to_string();
                }
            }
        }
    }
    for reader in &mut readers {
        for node in &mut nodes {
            while node.frames.end() < log.last() {
                node.feed(&log, 100);
            }
        }
        let mut steps = 0;
        while step(reader, &log, &nodes, mutation) {
            steps += 1;
            prop_assert!(steps < 10_000, "the reader never reaches the end");
        }
        reader.seen.judge(&reader.kinds, &log)?;
    }
    Ok(())
}

fn step(reader: &mut Reader, log: &Log, nodes: &[Node], mutation: Mutation) -> bool {
    let node = &nodes[reader.node];
    let mutated = mutated_frames(log, node, mutation);
    reader.step(log, mutated.as_ref().unwrap_or(&node.frames), mutation)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..120)
}

proptest! {
    #![proptest_config(Config::with_cases(2_000))]

    #[test]
    fn every_reader_gets_each_event_once_in_order_or_a_true_gap(actions in actions()) {
        play(&actions, Mutation::None)?;
    }
}

#[test]
fn a_seam_off_by_one_or_a_skipped_gap_record_is_found() {
    for mutation in [
        Mutation::PageStartsEarly,
        Mutation::PageStartsLate,
        Mutation::TailSkipsOne,
        Mutation::LeavesOutRecords,
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
