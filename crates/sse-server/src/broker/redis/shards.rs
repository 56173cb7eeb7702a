//! The primaries, each with its own supervised session, and the way from a channel to its primary.
//!
//! ```text
//!                    topology: slot ─► shard         (`cluster` changes it, a single Redis never)
//!                        │
//! channel ─► slot ───────┴─► shard ─► its connections ─► session
//!             │                                             ▲
//!             └─► era of the slot ──────────────────────────┘
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sse_proto::Channel;
use tokio::{
    sync::{Notify, SemaphorePermit, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    attempts::Attempts,
    failover::LossDetector,
    handshake::Connections,
    names::Names,
    read_gate::ReadKind,
    session::{Session, Subject},
    shard::{Purpose, Routed, Shard},
    slots::{Slot, Slots},
    target::ServerAddress,
    topology::Topology,
};
use crate::broker::BrokerError;

/// Slots that may have moved and wait until the map changes. What is not recorded here is found again.
pub(super) const MOVES_MAX: usize = 1024;
/// The primaries of a Redis Cluster, or the only one.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) names: Names,
    pub(super) losses: Arc<LossDetector>,
    topology: watch::Sender<Arc<Topology>>,
    /// Slots that have moved, and to which address, for the task that keeps the map.
    moves: mpsc::Sender<(Slot, ServerAddress)>,
    /// Notified when the map may be old.
    pub(super) map_is_old: Notify,
    /// Why the map of a Redis Cluster cannot be read at present.
    map_failure: Mutex<Option<String>>,
    /// Time limit of a session.
    pub(super) timeout: Duration,
    /// The servers, for messages.
    pub(super) address: String,
    /// Whether another Redis takes over when a primary cannot be used.
    has_successors: bool,
}

impl Shards {
    /// Also returns the end of the queue of slots that have moved.
    pub(super) fn new(
        losses: Arc<LossDetector>,
        names: Names,
        (address, timeout): (String, Duration),
        has_successors: bool,
    ) -> (Self, mpsc::Receiver<(Slot, ServerAddress)>) {
        let (moves, receiver) = mpsc::channel(MOVES_MAX);
        let unknown = Topology::unknown(names.slots());
        let shards = Self {
            names,
            losses,
            topology: watch::channel(Arc::new(unknown)).0,
            moves,
            map_is_old: Notify::new(),
            map_failure: Mutex::default(),
            timeout,
            address,
            has_successors,
        };
        (shards, receiver)
    }

    /// Whether there can be several primaries.
    pub(super) fn is_cluster(&self) -> bool {
        self.names.slots() == Slots::Cluster
    }

    pub(super) const fn has_successors(&self) -> bool {
        self.has_successors
    }

    /// The end of a session that begins now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Returns which primary owns which slot.
    pub(super) fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    /// Returns the topology as it changes.
    pub(super) fn watch_topology(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.subscribe()
    }

    /// Uses a new topology, in which `moved` are the slots with another owner.
    ///
    /// The era changes before and after. A session that was routed by the old topology in an old or
    /// in the first era has replies of an era that has ended.
    pub(super) fn set_topology(&self, topology: Topology, moved: &[Slot]) {
        self.losses.eras.begin_era(moved);
        self.topology.send_replace(Arc::new(topology));
        self.losses.eras.begin_era(moved);
    }

    /// Returns a number that changes with each connection; `None` while there is none at all.
    pub(super) fn era(&self) -> Option<u64> {
        let topology = self.topology.borrow();
        let is_up = topology.shards.iter().any(|shard| shard.connection.is_up());
        is_up.then(|| self.losses.eras.last())
    }

    /// Begins a session for publishes, and for other commands on the keys of one channel that are
    /// few and small.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is no connection within the time limit.
    pub(super) async fn session<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> Result<Session<'a>, BrokerError> {
        let slot = self.names.slot(channel);
        self.open_session(Subject::Channel(channel, slot), slot, Purpose::Writes)
            .await
    }

    /// Begins a session for lookups and pages of one channel, which delay no publish.
    pub(super) async fn read_session<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> Result<Session<'a>, BrokerError> {
        let slot = self.names.slot(channel);
        self.open_session(Subject::Channel(channel, slot), slot, Purpose::Reads)
            .await
    }

    /// Begins a session for keys of `slot` that belong to no channel.
    pub(super) async fn slot_session(&self, slot: Slot) -> Result<Session<'_>, BrokerError> {
        let slot = self.names.slots().route(slot);
        self.open_session(Subject::Slot(slot), slot, Purpose::Writes)
            .await
    }

    /// Begins a session for a key that belongs to no channel.
    pub(super) async fn key_session(&self, key: &str) -> Result<Session<'_>, BrokerError> {
        self.slot_session(self.names.slots().of_key(key)).await
    }

    /// Begins a session for one primary, whatever it owns.
    pub(super) async fn primary_session(
        &self,
        shard: &Arc<Shard>,
        purpose: Purpose,
    ) -> Result<Session<'_>, BrokerError> {
        let deadline = self.deadline();
        let connections = shard.connection.wait_until_up(deadline, || true).await?;
        let routed = Routed {
            shard: shard.clone(),
            connections,
            era: 0,
        };
        let routed = (routed, purpose);
        Ok(Session::new(self, Subject::Primary, routed, deadline))
    }

    async fn open_session<'a>(
        &'a self,
        subject: Subject<'a>,
        slot: Slot,
        purpose: Purpose,
    ) -> Result<Session<'a>, BrokerError> {
        let deadline = self.deadline();
        let routed = (self.route(slot, None, deadline).await?, purpose);
        let mut session = Session::new(self, subject, routed, deadline);
        session.verify_first_use().await?;
        Ok(session)
    }

    /// Begins the attempts of one write, which share a deadline.
    pub(super) fn attempts<'a>(&'a self, channel: &'a Channel) -> Attempts<'a> {
        Attempts::new(self, channel)
    }

    /// Finds the primary of `slot`, in another era than `left_era`.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is none with a connection before the deadline.
    pub(super) async fn route(
        &self,
        slot: Slot,
        left_era: Option<u64>,
        deadline: Instant,
    ) -> Result<Routed, BrokerError> {
        let eras = &self.losses.eras;
        let mut watched = self.topology.subscribe();
        loop {
            // Before the topology: see `set_topology`.
            let era = eras.of(slot);
            let topology = watched.borrow_and_update().clone();
            let Some(shard) = topology.owner(slot) else {
                let changed = timeout_at(deadline, watched.changed()).await;
                changed
                    .map_err(|_| self.no_owner())?
                    .map_err(|_| self.no_owner())?;
                continue;
            };
            let is_another = || Some(eras.of(slot)) != left_era;
            let up = shard.connection.wait_until_up(deadline, is_another);
            let connections = tokio::select! {
                up = up => up?,
                changed = watched.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Err(self.no_owner()),
                },
            };
            if eras.of(slot) == era {
                return Ok(Routed {
                    shard: shard.clone(),
                    connections,
                    era,
                });
            }
        }
    }

    /// Returns the primary of `slot`, once one is known.
    ///
    /// # Errors
    ///
    /// `Unavailable`: none is known within the time limit.
    pub(super) async fn owner(&self, slot: Slot) -> Result<Arc<Shard>, BrokerError> {
        let mut topology = self.topology.subscribe();
        let known = topology.wait_for(|topology| topology.owner(slot).is_some());
        let known = timeout(self.timeout, known).await;
        let topology = known
            .map_err(|_| self.no_owner())?
            .map_err(|_| self.no_owner())?;
        topology.owner(slot).cloned().ok_or_else(|| self.no_owner())
    }

    pub(super) fn no_owner(&self) -> BrokerError {
        BrokerError::Unavailable(format!(
            "Redis at {}: {}",
            self.address,
            self.why_no_owner()
        ))
    }

    pub(super) fn why_no_owner(&self) -> String {
        let why = self
            .map_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        why.clone()
            .unwrap_or_else(|| "no primary serves this channel".to_owned())
    }

    /// Records why the map of a Redis Cluster cannot be read, or that it was read.
    pub(super) fn set_map_failure(&self, why: Option<String>) {
        let mut failure = self
            .map_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *failure = why;
    }

    /// Finds the primary that a redirection names.
    pub(super) async fn find_node(
        &self,
        address: Option<ServerAddress>,
        deadline: Instant,
    ) -> Result<(Arc<Shard>, Connections), BrokerError> {
        let topology = self.topology();
        let address = address.map(|address| topology.known_address(address));
        let shard = address.and_then(|address| topology.shard_at(&address));
        let Some(shard) = shard else {
            self.request_map();
            return Err(BrokerError::Unavailable(
                "Redis names a node that is not known yet".to_owned(),
            ));
        };
        let connections = shard.connection.wait_until_up(deadline, || true).await?;
        Ok((shard.clone(), connections))
    }

    /// Waits for a place at the gate of a primary.
    pub(super) async fn enter_gate<'a>(
        &self,
        shard: &'a Shard,
        kind: ReadKind,
    ) -> Result<Option<SemaphorePermit<'a>>, BrokerError> {
        self.within_limit(shard.gate.enter(kind)).await
    }

    /// Records that a node reports `slot` at another address.
    pub(super) fn note_moved(&self, slot: Slot, address: ServerAddress) {
        if self.moves.try_send((slot, address)).is_err() {
            self.request_map();
        }
    }

    /// Lets the map be read again soon.
    pub(super) fn request_map(&self) {
        self.map_is_old.notify_one();
    }

    /// Waits for `work` up to the time limit.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the time limit has passed.
    pub(super) async fn within_limit<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, BrokerError> {
        let limit = self.timeout;
        timeout(limit, work).await.map_err(|_| {
            let address = &self.address;
            BrokerError::Unavailable(format!("Redis at {address}: no response within {limit:?}"))
        })
    }
}

/// Shards hold receivers of the topology, which holds the shards.
impl Drop for Shards {
    fn drop(&mut self) {
        let unknown = Topology::unknown(self.names.slots());
        self.topology.send_replace(Arc::new(unknown));
    }
}
