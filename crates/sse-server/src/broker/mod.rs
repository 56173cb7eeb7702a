//! A broker keeps events in order and assigns their ids. It knows neither subscribers nor HTTP.
//!
//! # The contract
//!
//! A channel is a log. There is no order across channels. All brokers keep these guarantees, and
//! all pass `tests/server/broker_contract.rs`:
//!
//! - [`append`](Broker::append) adds events to the end of one channel, all or none, in their order.
//!   Once it returns ids, the events are as durable as the broker's store, and every later read
//!   returns them.
//! - An id is never assigned twice, and the ids of a channel only grow.
//! - [`append_idempotent`](Broker::append_idempotent) does the same for items that may have a key.
//!   An item whose key is known in the channel is not added again and returns its first ids. The
//!   broker stores keys together with the events, and keeps them for at least the configured
//!   window, even if the events are trimmed earlier.
//! - [`read`](Broker::read) returns a run of consecutive events in id order. The page states
//!   whether the run continues the requested position ([`Continuity::Contiguous`]) or whether
//!   events may be missing ([`Continuity::Gap`]). A page ends early only at its limits or before
//!   damaged events, and sets [`Page::more`] then. The next page reports the damage as a gap.
//! - [`read_back`](Broker::read_back) returns events newest first. It skips damaged events: a read
//!   forwards from its end reports them.
//! - A log that lost its newest events gets a *gap record* in their place, if a node knew of the
//!   events, or a restore from a copy: an entry of the type `gap` whose data is a `Gap`.
//! - [`check_settled`](Broker::check_settled) guarantees that no event up to an id can appear.
//! - A channel can be closed and deleted, and a write can have a condition: see [`lifecycle`].
//! - A [`Watcher`] of a channel ([`follow`](Broker::follow)) is notified after every append to the
//!   channel, by any node. A notification may be spurious. A caller that follows before it reads
//!   misses nothing. An in-process log hands the events of each append over
//!   ([`notify::Watcher::committed`]) once they are committed.

pub mod backup;
mod channel_index;
mod channel_usage;
mod client_shares;
mod clock;
mod committed;
pub mod continuity;
pub mod embedded;
mod error;
mod fingerprint;
pub mod idempotency;
pub mod lifecycle;
pub mod memory;
pub(crate) mod nodes;
pub mod notify;
mod publisher;
pub mod redis;
mod retention;
pub mod revocations;
pub(crate) mod transfer;
mod types;

use std::sync::Weak;

use sse_proto::{Channel, Event, EventId, api::Gap};

use crate::budget::ClientNet;

pub(crate) use self::redis::FollowPermit;
pub use self::{
    committed::CommittedGroup,
    error::{BrokerError, Warning},
    publisher::Publisher,
    retention::Retention,
    types::{
        Appended, BackPage, Continuity, GAP, Page, PageLimits, ReadFrom, Settled, Stored, lost_of,
    },
};
use self::{
    embedded::Embedded,
    idempotency::{AppendItem, AppendOutcome},
    memory::Memory,
    notify::{ChangeNotifier, Watcher},
    redis::RedisBroker,
};

/// The broker follows as many channels as it may, of all clients or of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FollowLimitReached;

/// The store of the events. The set is closed, and the settings choose one at start.
#[derive(Debug, Clone)]
pub enum Broker {
    /// A file of this process.
    Embedded(Embedded),
    /// The memory of this process.
    Memory(Memory),
    /// Redis Streams, which many nodes share.
    Redis(RedisBroker),
}

impl Broker {
    /// Appends `events`, at least one, to `channel`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable),
    /// [`OutcomeUnknown`](BrokerError::OutcomeUnknown), [`Full`](BrokerError::Full),
    /// [`TooManyNewChannels`](BrokerError::TooManyNewChannels).
    pub async fn append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.append(publisher, channel, events).await,
            Self::Memory(broker) => broker.append(publisher, channel, events),
            Self::Redis(broker) => broker.append(publisher, channel, events).await,
        }
    }

    /// Appends those of `items`, at least one, whose key is not known in `channel`.
    ///
    /// The append is atomic and keeps the order of the items. Returns the outcome of each item.
    ///
    /// # Errors
    ///
    /// Every [`BrokerError`]. After `OutcomeUnknown` the caller can append the same items again:
    /// items with keys are not stored twice.
    pub async fn append_idempotent(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: Vec<AppendItem>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.append_idempotent(publisher, channel, items).await,
            Self::Memory(broker) => broker.append_idempotent(publisher, channel, &items),
            Self::Redis(broker) => broker.append_idempotent(publisher, channel, items).await,
        }
    }

    /// Reads a run of events of `channel`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.read(channel, from, limits).await,
            Self::Memory(broker) => Ok(broker.read(channel, from, limits)),
            Self::Redis(broker) => broker.read(channel, from, limits).await,
        }
    }

    /// Reads for the tail of `channel`, which does not wait behind reads of history.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub(crate) async fn read_tail(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => self.read(channel, from, limits).await,
            Self::Redis(broker) => broker.read_tail(channel, from, limits).await,
        }
    }

    /// Reads a run of events of `channel` backwards, from its newest event or from the event before
    /// `before`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.read_back(channel, before, limits).await,
            Self::Memory(broker) => Ok(broker.read_back(channel, before, limits)),
            Self::Redis(broker) => broker.read_back(channel, before, limits).await,
        }
    }

    /// Checks that no event with an id up to `bound` can still appear in `channel`, an append in
    /// flight included.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.check_settled(channel, bound).await,
            Self::Memory(broker) => Ok(broker.check_settled(channel, bound)),
            Self::Redis(broker) => broker.check_settled(channel, bound).await,
        }
    }

    /// Returns the gap whose lost range contains ids up to `bound` although its record is above it.
    /// Other events may lie between `bound` and the record.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.loss_spanning(channel, bound).await,
            Self::Memory(_) => Ok(None),
            Self::Redis(broker) => broker.loss_spanning(channel, bound).await,
        }
    }

    /// Returns the time of the log's clock, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable).
    pub async fn now_ms(&self) -> Result<u64, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.now_ms()),
            Self::Memory(broker) => Ok(broker.now_ms()),
            Self::Redis(broker) => broker.now_ms().await,
        }
    }

    /// Returns the last id of `channel`, before its end if it is closed. A subscriber without a
    /// cursor starts after this id.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn last_id(&self, channel: &Channel) -> Result<EventId, BrokerError> {
        self.last_id_for(channel, None).await
    }

    /// Returns the last id of `channel` for `client`, if it is known. The errors are those of
    /// [`last_id`](Self::last_id).
    pub(crate) async fn last_id_for(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<EventId, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.last_id(channel)),
            Self::Memory(broker) => Ok(broker.last_id(channel)),
            Self::Redis(broker) => broker.last_id(channel, client).await,
        }
    }

    /// Returns whether `channel` has, or had, events, so that a publish of `client` to it needs no
    /// new channel. The errors are those of [`last_id`](Self::last_id).
    pub(crate) async fn has_channel(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<bool, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.has_channel(channel)),
            Self::Memory(broker) => Ok(broker.has_channel(channel)),
            Self::Redis(broker) => broker.has_channel(channel, client).await,
        }
    }

    /// Allows the caller to follow one more channel on behalf of `client`.
    ///
    /// # Errors
    ///
    /// The limit of followed channels is reached, which only Redis has.
    pub(crate) fn follow_permit(
        &self,
        client: Option<ClientNet>,
    ) -> Result<Option<FollowPermit>, FollowLimitReached> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => Ok(None),
            Self::Redis(broker) => match broker.follow_permit(client) {
                Some(permit) => Ok(Some(permit)),
                None => Err(FollowLimitReached),
            },
        }
    }

    /// Notifies `watcher` of every append to `channel` from now on, until the watcher is dropped.
    pub fn follow(&self, channel: &Channel, watcher: Weak<dyn Watcher>) {
        self.notifier().follow(channel, watcher);
        self.update_subscription(channel);
    }

    /// Removes the watchers of `channel` that were dropped.
    pub fn remove_dropped_watchers(&self, channel: &Channel) {
        self.notifier().remove_dropped(channel);
        self.update_subscription(channel);
    }

    fn update_subscription(&self, channel: &Channel) {
        if let Self::Redis(broker) = self {
            broker.update_subscription(channel);
        }
    }

    fn notifier(&self) -> &ChangeNotifier {
        match self {
            Self::Embedded(broker) => broker.notifier(),
            Self::Memory(broker) => broker.notifier(),
            Self::Redis(broker) => broker.notifier(),
        }
    }

    /// Returns how many times the log was opened again after a commit that failed.
    pub(crate) fn reopenings(&self) -> u64 {
        match self {
            Self::Embedded(broker) => broker.reopenings(),
            Self::Memory(_) | Self::Redis(_) => 0,
        }
    }

    /// Returns a number that changes with each connection to the store; `None` while there is none.
    #[must_use]
    pub fn era(&self) -> Option<u64> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => Some(0),
            Self::Redis(broker) => broker.era(),
        }
    }

    /// Checks that a publish would succeed now, with a round trip through everything that it needs.
    ///
    /// Returns warnings about a broker that works but may not keep what it acknowledges.
    ///
    /// # Errors
    ///
    /// The reason for which a publish would fail now.
    pub async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.check().await.map(|()| Vec::new()),
            Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(broker) => broker.check().await,
        }
    }
}
