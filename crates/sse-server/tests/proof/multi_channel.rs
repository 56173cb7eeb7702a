//! A stream of several channels, across trimming, failovers and node changes.
//!
//! The real [`MultiSubscription`] must deliver each channel exactly. A subscription whose
//! composite cursor omits a channel, or has a position too far ahead, must fail the test.

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::{Envelope as Enveloped, Gap},
    blocks::{BlockSplitter, Item},
};
use sse_server::{
    broker::PageLimits,
    channel::{
        Envelope, MultiSubscription, SubscriptionOptions,
        multi::{Fetch, MultiStep},
    },
};

use crate::{
    model::{Log, Node},
    seen::Seen,
};

const CHANNELS: usize = 3;
const NODES: usize = 2;

/// A defect of the composite cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// The cursor omits one channel, which starts now when the reader reconnects.
    ForgetsOne,
    /// The cursor has one channel at the end of the tail, although the reader is not there yet.
    TellsOneTooFar,
}

/// A step of the test.
#[derive(Debug, Clone)]
enum Action {
    Append {
        channel: usize,
        count: usize,
    },
    Trim {
        channel: usize,
        count: usize,
    },
    Failover {
        channel: usize,
        lost: usize,
        early: usize,
    },
    Feed {
        node: usize,
        channel: usize,
        count: usize,
    },
    RestartNode {
        node: usize,
    },
    Read {
        steps: usize,
    },
    Reconnect {
        node: usize,
    },
    Heartbeat,
}

fn action() -> impl Strategy<Value = Action> {
    let (channel, node) = (0..CHANNELS, 0..NODES);
    prop_oneof![
        6 => (channel.clone(), 1_usize..6).prop_map(|(channel, count)| Action::Append { channel, count }),
        1 => (channel.clone(), 1_usize..5).prop_map(|(channel, count)| Action::Trim { channel, count }),
        1 => (channel.clone(), 1_usize..6, 0_usize..3)
            .prop_map(|(channel, lost, early)| Action::Failover { channel, lost, early }),
        6 => (node.clone(), channel, 1_usize..5).prop_map(|(node, channel, count)| Action::Feed { node, channel, count }),
        1 => node.clone().prop_map(|node| Action::RestartNode { node }),
        8 => (1_usize..6).prop_map(|steps| Action::Read { steps }),
        2 => node.prop_map(|node| Action::Reconnect { node }),
        1 => Just(Action::Heartbeat),
    ]
}

/// The logs, and each node's tails of them.
struct System {
    logs: Vec<Log>,
    nodes: Vec<Vec<Node>>,
}

/// The reader: its connection, and what it has received over all connections.
struct Reader {
    node: usize,
    subscription: MultiSubscription,
    fetching: Option<Fetch>,
    last_id: String,
    seen: Vec<Seen>,
}

fn subscription(starts: impl IntoIterator<Item = (Channel, Position)>) -> MultiSubscription {
    // The envelope names the channel of each event.
    let wanted = SubscriptionOptions {
        envelope: Envelope::Json,
        ..SubscriptionOptions::default()
    };
    MultiSubscription::new(
        starts
            .into_iter()
            .map(|(channel, position)| (channel, Ok(position))),
        &wanted,
    )
}

impl System {
    fn new() -> Self {
        let logs: Vec<Log> = (0..CHANNELS)
            .map(|nth| Log::new(format!("c{nth}").parse().unwrap()))
            .collect();
        let node = |tail_events| {
            logs.iter()
                .map(|log| Node::join(log, tail_events))
                .collect()
        };
        let nodes = [4, 2].map(node).into();
        Self { logs, nodes }
    }

    fn reader(&self) -> Reader {
        let start = |log: &Log| (log.channel.clone(), Position::After(EventId::ZERO));
        let subscription = subscription(self.logs.iter().map(start));
        let last_id = subscription.opening_cursor().unwrap().to_string();
        let seen = self.logs.iter().map(|_| Seen::default()).collect();
        Reader {
            node: 0,
            subscription,
            fetching: None,
            last_id,
            seen,
        }
    }

    fn catch_up(&mut self) {
        for node in &mut self.nodes {
            for (tail, log) in node.iter_mut().zip(&self.logs) {
                while tail.frames.end() < log.last() {
                    tail.feed(log, 100);
                }
            }
        }
    }
}

impl Reader {
    /// Reconnects as the server does it: a channel that is missing from the cursor starts now.
    fn reconnect(&mut self, system: &System, node: usize, mutation: Mutation) {
        let cursor: Cursor = self.last_id.parse().unwrap();
        let start = |(nth, log): (usize, &Log)| {
            let now = Position::After(log.last());
            let from_cursor = cursor
                .position_in(&log.channel)
                .filter(|_| (mutation, nth) != (Mutation::ForgetsOne, 1));
            let position = match mutation {
                Mutation::TellsOneTooFar if nth == 1 => {
                    Position::After(system.nodes[self.node][nth].frames.end())
                }
                _ => from_cursor.unwrap_or(now),
            };
            (log.channel.clone(), position)
        };
        self.subscription = subscription(system.logs.iter().enumerate().map(start));
        (self.node, self.fetching) = (node, None);
    }

    /// Runs one step of the reader; returns `false` if there was nothing to do.
    fn step(&mut self, system: &System) -> bool {
        let chunk = if let Some(fetch) = self.fetching.take() {
            let page = system.logs[fetch.nth].read(
                fetch.from,
                PageLimits {
                    events_max: 3,
                    bytes_max: usize::MAX,
                },
            );
            self.subscription.apply_page(fetch, &page)
        } else {
            match self
                .subscription
                .next(|nth| &system.nodes[self.node][nth].frames, None)
            {
                MultiStep::Write(chunk) => Some(chunk),
                MultiStep::Fetch(fetch) => {
                    self.fetching = Some(fetch);
                    None
                }
                MultiStep::Wait | MultiStep::End => return false,
            }
        };
        if let Some(chunk) = chunk {
            self.take(system, &chunk.bytes);
        }
        true
    }

    fn take(&mut self, system: &System, bytes: &[u8]) {
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
            self.last_id = block.id.clone().unwrap();
            let cursor: Cursor = self.last_id.parse().unwrap();
            let nth = |channel: &str| {
                system
                    .logs
                    .iter()
                    .position(|log| log.channel.as_str() == channel)
                    .unwrap()
            };
            if field("event: ") == "gap" {
                let gap: Gap = serde_json::from_str(field("data: ")).unwrap();
                self.seen[nth(gap.channel.as_str())]
                    .gap(&gap, cursor.position_in(&gap.channel).unwrap());
            } else {
                let event: Enveloped<'_> = serde_json::from_str(field("data: ")).unwrap();
                let channel: Channel = event.channel.parse().unwrap();
                assert_eq!(
                    cursor.position_in(&channel),
                    Some(Position::After(event.id))
                );
                self.seen[nth(channel.as_str())].event(event.id);
            }
        }
    }
}

/// Runs all actions, lets the reader catch up, and checks what it received from each channel.
fn play(actions: &[Action], mutation: Mutation) -> Result<(), TestCaseError> {
    let mut system = System::new();
    let mut reader = system.reader();
    for action in actions {
        match *action {
            Action::Append { channel, count } => {
                (0..count).for_each(|_| system.logs[channel].append(1));
            }
            Action::Trim { channel, count } => system.logs[channel].trim(count),
            Action::Failover {
                channel,
                lost,
                early,
            } => system.logs[channel].fail_over(lost, early),
            Action::Feed {
                node,
                channel,
                count,
            } => system.nodes[node][channel].feed(&system.logs[channel], count),
            Action::RestartNode { node } => {
                let System { logs, nodes } = &mut system;
                nodes[node]
                    .iter_mut()
                    .zip(&*logs)
                    .for_each(|(tail, log)| tail.restart(log));
                if reader.node == node {
                    reader.reconnect(&system, node, mutation);
                }
            }
            Action::Read { steps } => {
                for _ in 0..steps {
                    reader.step(&system);
                }
            }
            Action::Reconnect { node } => reader.reconnect(&system, node, mutation),
            Action::Heartbeat => {
                if let Some(position) = reader.subscription.take_unsent_cursor() {
                    reader.last_id = position.to_string();
                }
            }
        }
    }
    system.catch_up();
    let mut steps = 0;
    while reader.step(&system) {
        steps += 1;
        prop_assert!(steps < 10_000, "the reader never reaches the end");
    }
    for (seen, log) in reader.seen.iter().zip(&system.logs) {
        seen.judge(&[], log)?;
    }
    Ok(())
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..120)
}

proptest! {
    #![proptest_config(Config::with_cases(1_000))]

    #[test]
    fn a_reader_of_several_channels_gets_each_event_once_in_order_or_a_true_gap(actions in actions()) {
        play(&actions, Mutation::None)?;
    }
}

#[test]
fn a_composite_cursor_that_omits_or_overstates_a_channel_is_found() {
    for mutation in [Mutation::ForgetsOne, Mutation::TellsOneTooFar] {
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(1_000)
        };
        let found = TestRunner::new(config).run(&actions(), |actions| play(&actions, mutation));
        assert!(
            matches!(found, Err(TestError::Fail(..))),
            "{mutation:?} was not found: {found:?}"
        );
    }
}
