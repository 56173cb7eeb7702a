//! Which primary owns each slot, as this node knows it. A single Redis owns the one slot that there
//! is.

use std::sync::Arc;

use sse_proto::Channel;
use tokio::sync::watch;

use super::{
    names::Names,
    shard::Shard,
    slot_map::NodeNames,
    slots::{Slot, Slots},
    target::ServerAddress,
};

/// The primaries and their slots, at one time.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    slots: Slots,
    /// Per slot, the position of its owner in `shards`.
    owners: Vec<Option<u16>>,
    pub(super) shards: Vec<Arc<Shard>>,
    /// All nodes of a Redis Cluster, with all of their addresses.
    pub(super) nodes: Vec<NodeNames>,
}

impl Topology {
    /// No primary is known.
    pub(super) fn unknown(slots: Slots) -> Self {
        Self {
            slots,
            owners: vec![None; slots.count()],
            shards: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// One primary owns everything.
    pub(super) fn of_one(shard: Arc<Shard>) -> Self {
        Self {
            owners: vec![Some(0)],
            shards: vec![shard],
            ..Self::unknown(Slots::One)
        }
    }

    /// Returns the primary that owns `slot`.
    pub(super) fn owner(&self, slot: Slot) -> Option<&Arc<Shard>> {
        let position = (*self.owners.get(slot.index())?)?;
        self.shards.get(usize::from(position))
    }

    /// Returns the primary at `address`.
    pub(super) fn shard_at(&self, address: &ServerAddress) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| shard.address == *address)
    }

    /// Returns the slots of the primary at `address`.
    pub(super) fn slots_of(&self, address: &ServerAddress) -> Vec<Slot> {
        let mut shards = self.shards.iter();
        let position = shards.position(|shard| shard.address == *address);
        let Some(position) = position.and_then(|position| u16::try_from(position).ok()) else {
            return Vec::new();
        };
        let owns = |slot: &Slot| self.owners.get(slot.index()) == Some(&Some(position));
        self.slots.all().filter(owns).collect()
    }

    /// Returns how many slots have no primary.
    pub(super) fn unserved(&self) -> usize {
        self.owners.iter().filter(|owner| owner.is_none()).count()
    }

    /// Returns the address by which a node is known that a redirection names by `address`.
    pub(super) fn known_address(&self, address: ServerAddress) -> ServerAddress {
        let mut nodes = self.nodes.iter();
        let known = nodes.find(|node| node.others.contains(&address));
        known.map_or(address, |node| node.address.clone())
    }

    /// Sets the owner of `slot`, which is then one of `shards`.
    pub(super) fn set_owner(&mut self, slot: Slot, shard: &Arc<Shard>) {
        let position = self
            .shards
            .iter()
            .position(|known| Arc::ptr_eq(known, shard))
            .unwrap_or_else(|| {
                self.shards.push(shard.clone());
                self.shards.len() - 1
            });
        if let Some(owner) = self.owners.get_mut(slot.index()) {
            *owner = u16::try_from(position).ok();
        }
    }
}

/// Which slots the primary at one address owns, as that changes.
#[derive(Debug, Clone)]
pub(super) struct Ownership {
    pub(super) topology: watch::Receiver<Arc<Topology>>,
    pub(super) names: Names,
    pub(super) address: ServerAddress,
}

impl Ownership {
    /// Returns the slots that the primary owns now.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.topology.borrow().slots_of(&self.address)
    }

    /// Whether the primary has the keys of `channel` now.
    pub(super) fn has(&self, channel: &Channel) -> bool {
        let topology = self.topology.borrow();
        let owner = topology.owner(self.names.slot(channel));
        owner.is_some_and(|owner| owner.address == self.address)
    }
}
