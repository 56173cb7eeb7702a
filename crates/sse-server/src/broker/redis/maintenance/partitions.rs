//! Partitions of the slots, and the leases of the nodes that maintain them.
//!
//! A lease ends by itself, so the partitions of a node that dies get another maintainer. The lease of a
//! partition lies in the partition's first slot.

use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::broker::{
    BrokerError,
    redis::{
        scripts::{milliseconds, random_suffix},
        slots::{SLOTS, Slot},
        streams::Streams,
    },
};

/// How many partitions there are.
pub(super) const PARTITIONS: u16 = 16;
const PARTITION_SLOTS: u16 = SLOTS / PARTITIONS;

/// How long a node has a partition, unless it renews the lease.
const LEASE: Duration = Duration::from_mins(1);
/// Longest pause between two attempts to renew or acquire the leases.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// Acquires or renews a lease; replies with 1 if the node has it.
const ACQUIRE: &str = "\
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end\n\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
    redis.call('PEXPIRE', KEYS[1], ARGV[2])\n\
    return 1";

/// A partition, below [`PARTITIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition(u16);

impl Partition {
    /// Returns every partition.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// Returns the partition of a slot.
    pub(super) const fn of(slot: Slot) -> Self {
        Self(slot.number() / PARTITION_SLOTS)
    }

    /// Returns the slot in which the keys of the partition lie.
    pub(super) const fn first_slot(self) -> Slot {
        Slot::new(self.0 * PARTITION_SLOTS)
    }

    /// Returns the slots of the partition.
    pub(super) fn slots(self) -> impl Iterator<Item = Slot> {
        let first = self.0 * PARTITION_SLOTS;
        (first..first + PARTITION_SLOTS).map(Slot::new)
    }
}

/// The leases of one node.
#[derive(Debug)]
pub(super) struct Leases {
    /// The text by which Redis knows this node.
    node: String,
    /// Until when the node has each partition.
    held_until: [Option<Instant>; PARTITIONS as usize],
    interval: Duration,
    renew_at: Instant,
}

impl Leases {
    pub(super) fn new(round: Duration) -> Self {
        Self {
            node: format!("{}-{}", std::process::id(), random_suffix()),
            held_until: [None; PARTITIONS as usize],
            interval: round.min(RENEW_INTERVAL),
            renew_at: Instant::now(),
        }
    }

    /// Whether this node maintains `slot`.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.holds_partition(Partition::of(slot))
    }

    /// Whether this node maintains `partition`.
    pub(super) fn holds_partition(&self, partition: Partition) -> bool {
        let until = self.held_until.get(usize::from(partition.0));
        until.is_some_and(|until| until.is_some_and(|until| Instant::now() < until))
    }

    /// Returns the partitions that this node maintains.
    pub(super) fn held(&self) -> Vec<Partition> {
        let is_held = |partition: &Partition| self.holds_partition(*partition);
        Partition::all().filter(is_held).collect()
    }

    /// Whether this node maintains any partition.
    pub(super) fn holds_any(&self) -> bool {
        !self.held().is_empty()
    }

    /// Renews the leases of this node and acquires those that are free, every few seconds.
    pub(super) async fn renew_if_due(&mut self, streams: &Streams) -> Result<(), BrokerError> {
        // Measured from before the command, so the node gives a lease up before Redis does.
        let now = Instant::now();
        if now < self.renew_at {
            return Ok(());
        }
        let commands = Partition::all().map(|partition| {
            let command = self.acquire_command(streams, partition);
            (partition.first_slot(), command)
        });
        let replies = streams.query_slots(commands).await?;
        self.renew_at = now + self.interval;
        for (until, reply) in self.held_until.iter_mut().zip(replies) {
            match reply {
                Value::Int(1) => *until = Some(now + LEASE),
                Value::Int(_) => *until = None,
                // An error says nothing about who has the lease.
                _ => {}
            }
        }
        Ok(())
    }

    fn acquire_command(&self, streams: &Streams, partition: Partition) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(ACQUIRE).arg(1);
        command.arg(streams.names.lease(partition.first_slot()));
        command.arg(&self.node).arg(milliseconds(LEASE));
        command
    }

    #[cfg(test)]
    pub(super) fn hold_all_for_test(&mut self) {
        self.held_until = [Some(Instant::now() + LEASE); PARTITIONS as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_belongs_to_one_partition() {
        let slots: Vec<Slot> = Partition::all().flat_map(Partition::slots).collect();
        assert_eq!(slots.len(), usize::from(SLOTS));
        assert_eq!(slots.first(), Some(&Slot::new(0)));
        for partition in Partition::all() {
            assert_eq!(Partition::of(partition.first_slot()), partition);
            assert!(
                partition
                    .slots()
                    .all(|slot| Partition::of(slot) == partition)
            );
        }
    }

    #[test]
    fn a_lease_ends_by_itself() {
        let mut leases = Leases::new(Duration::from_secs(1));
        assert!(!leases.holds_any());
        leases.hold_all_for_test();
        assert!(leases.holds(Slot::new(SLOTS - 1)));
        leases.held_until[3] = Some(Instant::now());
        assert_eq!(leases.held().len(), usize::from(PARTITIONS) - 1);
        assert!(!leases.holds(Partition(3).first_slot()));
    }
}
