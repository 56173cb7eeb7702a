//! Hints: slots of which a writer knows that a channel is due before the next scan of their due times.
//!
//! A hint only makes maintenance prompt. Without it, the scan finds the channel. A node collects its
//! hints and sends them with its next look at the agenda, so no write waits for them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{Cmd, Value};

use super::{Maintainer, partitions::Partition};
use crate::broker::{
    BrokerError,
    redis::{
        replies::{into_array, text},
        slots::Slot,
        streams::Streams,
    },
};

/// Hints of one partition that are taken at once.
const HINTS_BATCH: usize = 256;

/// The hints of this node.
#[derive(Debug)]
pub(in crate::broker::redis) struct Hints {
    /// A channel that is due after this time needs no hint.
    scan: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Slots whose hint was not sent yet.
    waiting: HashSet<Slot>,
    /// When a hint for a slot makes the slot due. Until then it needs no other hint.
    due: HashMap<Slot, Instant>,
}

impl Hints {
    /// `scan` is the time in which the due times of all slots are read.
    pub(in crate::broker::redis) fn new(scan: Duration) -> Self {
        Self {
            scan,
            state: Mutex::default(),
        }
    }

    /// Records that a channel of `slot` is due after `delay`.
    pub(in crate::broker::redis) fn add(&self, slot: Slot, delay: Duration) {
        if delay >= self.scan {
            return;
        }
        let now = Instant::now();
        let due = now + delay;
        let mut state = self.state();
        let is_covered = |known: &Instant| now < *known && *known <= due;
        if !state.due.get(&slot).is_some_and(is_covered) {
            state.due.insert(slot, due);
            state.waiting.insert(slot);
        }
    }

    fn take(&self) -> HashSet<Slot> {
        std::mem::take(&mut self.state().waiting)
    }

    fn put_back(&self, slots: impl IntoIterator<Item = Slot>) {
        self.state().waiting.extend(slots);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maintainer {
    /// Sends this node's hints to the nodes that maintain their slots, and returns the hints for the
    /// slots that this node maintains.
    pub(super) async fn exchange_hints(
        &mut self,
        streams: &Streams,
    ) -> Result<Vec<Slot>, BrokerError> {
        let (own, others): (Vec<Slot>, Vec<Slot>) = streams
            .hints
            .take()
            .into_iter()
            .partition(|slot| self.leases.holds(*slot));
        let held = self.leases.held();
        let take = held.iter().map(|partition| {
            let mut command = redis::cmd("SPOP");
            let hints = streams.names.hints(partition.first_slot());
            command.arg(hints).arg(HINTS_BATCH);
            (partition.first_slot(), command)
        });
        let commands = send_commands(streams, &others);
        let sent = commands.len();
        match streams.query_slots(commands.into_iter().chain(take)).await {
            Ok(replies) => {
                let taken = replies.into_iter().skip(sent).flat_map(parse_slots);
                Ok(own.into_iter().chain(taken).collect())
            }
            Err(error) => {
                streams.hints.put_back(own.into_iter().chain(others));
                Err(error)
            }
        }
    }
}

fn send_commands(streams: &Streams, slots: &[Slot]) -> Vec<(Slot, Cmd)> {
    let mut by_partition: HashMap<Partition, Cmd> = HashMap::new();
    for slot in slots {
        let partition = Partition::of(*slot);
        let command = by_partition.entry(partition).or_insert_with(|| {
            let mut command = redis::cmd("SADD");
            command.arg(streams.names.hints(partition.first_slot()));
            command
        });
        command.arg(slot.number());
    }
    let commands = by_partition.into_iter();
    commands
        .map(|(partition, command)| (partition.first_slot(), command))
        .collect()
}

fn parse_slots(reply: Value) -> Vec<Slot> {
    let slots = into_array(reply).unwrap_or_default().into_iter();
    slots
        .filter_map(|slot| text(slot)?.parse().ok().map(Slot::new))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gets_a_hint_only_if_it_is_due_before_the_scan_and_before_its_last_hint() {
        let hints = Hints::new(Duration::from_mins(1));
        let slot = Slot::new(7);
        hints.add(slot, Duration::from_mins(1));
        assert!(hints.take().is_empty());
        hints.add(slot, Duration::from_secs(30));
        assert_eq!(hints.take(), HashSet::from([slot]));
        hints.add(slot, Duration::from_secs(40));
        assert!(hints.take().is_empty());
        hints.add(slot, Duration::from_secs(10));
        assert_eq!(hints.take(), HashSet::from([slot]));
        // That one is over at once, so the next one is not covered.
        hints.add(slot, Duration::ZERO);
        assert_eq!(hints.take().len(), 1);
        hints.add(slot, Duration::from_secs(10));
        assert_eq!(hints.take().len(), 1);
        hints.put_back([slot]);
        assert_eq!(hints.take().len(), 1);
    }

    #[test]
    fn what_no_node_wrote_is_no_slot() {
        let reply = |text: &str| Value::BulkString(text.into());
        let slots = parse_slots(Value::Array(vec![reply("3"), reply("x"), Value::Nil]));
        assert_eq!(slots, [Slot::new(3)]);
        assert!(parse_slots(Value::Nil).is_empty());
    }
}
