//! The broker keeps events in order and gives them their ids. It knows nothing of subscribers or HTTP.
//!
//! # The contract
//!
//! A channel is a log. All brokers keep these promises, and all pass `tests/broker_contract.rs`:
//!
//! - [`append`](Broker::append) adds events to the end of one channel, all or none, in their order. When it answers
//!   with ids, the events are durable (as durable as the broker's store) and every later read returns them.
//! - An id is never given out twice, and ids of a channel only grow.
//! - [`append_idempotent`](Broker::append_idempotent) does the same for parts that may have keys. A part whose key is known in the
//!   channel is not added again, and gets the ids of the first time. Keys are kept in the same step as the events, for
//!   at least the window that was set when they came, also when the events were trimmed meanwhile.
//! - [`read`](Broker::read) returns a run of consecutive events in id order. It says whether that run continues the
//!   asked position without a hole ([`Continuity::Contiguous`]) or cannot be proved to ([`Continuity::Gap`]); never does a page
//!   end early but for its limits, or before events that are damaged, and [`Page::more`] says so. Reading on from there
//!   tells a gap.
//! - [`read_back`](Broker::read_back) returns events newest first. It may pass over damaged ones, which are told to
//!   whoever reads forwards from where it ended.
//! - A log that has lost its newest events has a *gap record* in their place, where somebody knew of them: an entry that
//!   reads as an event of the type `gap` ([`Stored::is_gap`]), with a `Gap` for its data.
//! - [`check_settled`](Broker::check_settled) promises that no event up to an id will be added any more.
//! - A [`Watcher`] of a channel ([`follow`](Broker::follow)) is told to look after every append to it, by any node. It
//!   may be in vain; whoever follows first and then reads misses nothing.
//!
//! There is no order across channels.

mod clock;
pub mod continuity;
pub mod embedded;
pub mod idempotency;
pub mod memory;
pub mod notify;
pub mod redis;

use std::{num::NonZeroUsize, sync::Weak, time::Duration};

use bytestring::ByteString;
use sse_proto::{
    Channel, Event, EventId, Position,
    api::{Gap, GapReason, Lost},
};

use self::{
    embedded::Embedded,
    idempotency::{AppendItem, AppendOutcome, KeyLimits},
    memory::Memory,
    notify::{ChangeNotifier, Watcher},
    redis::RedisBroker,
};

/// Where events are kept: a closed set, chosen at start.
#[derive(Debug, Clone)]
pub enum Broker {
    /// In a file of this process.
    Embedded(Embedded),
    /// In the memory of this process.
    Memory(Memory),
    /// In Redis Streams, shared by many nodes.
    Redis(RedisBroker),
}

/// What history keeps; the oldest events beyond it are trimmed.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events of one channel. Over Redis it may be exceeded by a stream node (about a hundred).
    pub events_max: NonZeroUsize,
    /// Age of an event by the log's clock. The newest of a channel stays: the anchor of those who saw everything.
    pub age_max: Duration,
    /// Bytes of all channels together (embedded only; over Redis its `maxmemory` is the limit).
    pub bytes_max: u64,
    /// Channels; a publish to one more is refused, unless one whose events are all too old can be forgotten.
    pub channels_max: usize,
    /// Keys of publishes that may be sent again.
    pub keys: KeyLimits,
}

/// The ids that a batch got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of its first event.
    pub first: EventId,
    /// Of its last one.
    pub last: EventId,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadFrom {
    /// The oldest event that is kept.
    Oldest,
    /// The first event of this millisecond, by the log's clock, or later.
    Time(u64),
    /// A position that a subscriber holds; whether it can be continued is part of the answer.
    Position(Position),
}

/// How much one read may return. At least one event is returned if there is one, whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// Events.
    pub events_max: usize,
    /// Bytes of types and data.
    pub bytes_max: usize,
}

impl PageLimits {
    /// How many of the events with these sizes go into a page.
    #[must_use]
    pub fn fit(&self, sizes: impl IntoIterator<Item = usize>) -> usize {
        let mut bytes = 0_usize;
        let within = |(nth, size): &(usize, usize)| {
            bytes = bytes.saturating_add(*size);
            *nth == 0 || (*nth < self.events_max && bytes <= self.bytes_max)
        };
        sizes.into_iter().enumerate().take_while(within).count()
    }
}

/// An event as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the channel.
    pub id: EventId,
    /// Its type; not checked again, so that a log outlives a change of what may be published.
    pub kind: ByteString,
    /// Its data, as published.
    pub data: ByteString,
}

/// The type of an entry that is a gap record. It is reserved: no event has it.
pub const GAP: &str = "gap";

impl Stored {
    /// Whether this is no event but the log's record that events before it are lost. Whoever reads past it is told.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.kind == GAP
    }

    /// What a gap record tells.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        self.is_gap()
            .then(|| serde_json::from_str(&self.data).ok())
            .flatten()
    }

    /// What a gap record says was lost.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        lost_of(&self.kind, &self.data)
    }

    /// Whether it belongs to what lies up to `bound`: a record does as well if something up to there was lost.
    #[must_use]
    pub fn is_within(&self, bound: EventId) -> bool {
        self.id <= bound || self.lost().is_some_and(|lost| lost.after < bound)
    }

    /// Bytes of type and data.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.len() + self.data.len()
    }
}

/// What an entry says was lost, if it is a gap record.
#[must_use]
pub fn lost_of(kind: &str, data: &str) -> Option<Lost> {
    (kind == GAP)
        .then(|| serde_json::from_str::<Gap>(data).ok()?.lost)
        .flatten()
}

/// A run of consecutive events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How the run joins the position that was asked for.
    pub start: Continuity,
    /// In id order, without holes.
    pub events: Vec<Stored>,
    /// The page ended at its limits, or where the log is damaged: more follows.
    pub more: bool,
    /// The last id ever given out in the channel, as far as this read has seen; all there is unless `more`.
    pub last: EventId,
}

impl Page {
    /// Where to read on after this page.
    #[must_use]
    pub fn end(&self, asked: ReadFrom) -> Position {
        match (self.events.last(), self.start, asked) {
            (Some(event), _, _) => Position::After(event.id),
            (None, Continuity::Contiguous, ReadFrom::Position(position)) => position,
            (None, _, _) => Position::After(self.last),
        }
    }
}

/// Events, read towards the beginning of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackPage {
    /// In falling id order, without holes but for damaged ones.
    pub events: Vec<Stored>,
    /// The page ended at its limits: older events precede it.
    pub more: bool,
    /// The last id ever given out in the channel, as far as this read has seen.
    pub last: EventId,
}

/// Whether events up to an id can still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// None can: the log's clock is past that id. This is the last id given out in the channel at a later moment.
    Through(EventId),
    /// They can, for about this long.
    NotFor(Duration),
}

/// How a page joins the position it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Nothing lies between the position and the page.
    Contiguous,
    /// It cannot be proved that nothing was missed; the page starts at the oldest event that is kept, or after the lost
    /// or damaged ones.
    Gap {
        /// Why.
        reason: GapReason,
        /// The oldest event that is kept; of those after `lost`, or after the damaged ones.
        oldest: Option<EventId>,
        /// The position lies among these ids, which the log lost: whoever stood there has seen all up to `after`, from
        /// where the page goes on. The record of the loss is still to come in the log.
        lost: Option<Lost>,
    },
}

/// Something about the broker that whoever runs it should know: it works, but may not keep what it acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A stable word, `snake_case`.
    pub code: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Why the broker could not do what was asked. Events of an append that failed are not in the log, unless the
/// variant says that it is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// Not reached, or too busy. Nothing was stored; trying again later helps.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The answer did not come: the events may or may not be in the log.
    #[error("the broker did not confirm: {0}")]
    OutcomeUnknown(String),
    /// The log has no room by its own limits or the disk's. Nothing was stored.
    #[error("{0}")]
    Full(String),
    /// A key came again with other content. Nothing was stored.
    #[error("the key of part {item} was used for other content")]
    KeyReused {
        /// The part of the append, counted from zero.
        item: usize,
    },
    /// The channel knows as many keys as it may. Nothing was stored.
    #[error(
        "the channel has {keys_max} keys of publishes already, which is the limit (--idempotency-keys); the oldest \
         expires in {expires_in:?}"
    )]
    TooManyKeys {
        /// The limit.
        keys_max: usize,
        /// When there will be room for one.
        expires_in: Duration,
    },
    /// The log cannot be read there, and so not what lies behind it.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

impl Broker {
    /// Appends `events`, at least one, to `channel`.
    ///
    /// # Errors
    /// `Unavailable`, `OutcomeUnknown`, `Full`: see [`BrokerError`].
    pub async fn append(
        &self,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.append(channel, events).await,
            Self::Memory(broker) => broker.append(channel, events),
            Self::Redis(broker) => broker.append(channel, events).await,
        }
    }

    /// Appends those of `items`, at least one, whose key is not known in `channel`: all of them or none, in order.
    /// Tells for each where it is.
    ///
    /// # Errors
    /// Any: see [`BrokerError`]. After `OutcomeUnknown` the same parts may be appended again; those with keys are not
    /// doubled.
    pub async fn append_idempotent(
        &self,
        channel: &Channel,
        items: Vec<AppendItem>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.append_idempotent(channel, items).await,
            Self::Memory(broker) => broker.append_idempotent(channel, &items),
            Self::Redis(broker) => broker.append_idempotent(channel, &items).await,
        }
    }

    /// Reads a run of events of `channel`.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
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

    /// Reads a run of events of `channel` backwards: from its newest event, or from the one before `before`.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
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

    /// Whether no event with an id up to `bound` will ever be added to `channel` any more, one under way included.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
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

    /// The gap of a loss that reaches to `bound` or below, though its record comes after that in the log; other events may
    /// lie between. Only Redis can have such a one.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
    pub async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => Ok(None),
            Self::Redis(broker) => broker.loss_spanning(channel, bound).await,
        }
    }

    /// The log's clock: milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn now_ms(&self) -> Result<u64, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.now_ms()),
            Self::Memory(broker) => Ok(broker.now_ms()),
            Self::Redis(broker) => broker.now_ms().await,
        }
    }

    /// The position right after the newest event of `channel`: where a subscriber without a cursor starts.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
    pub async fn last_id(&self, channel: &Channel) -> Result<EventId, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.last_id(channel)),
            Self::Memory(broker) => Ok(broker.last_id(channel)),
            Self::Redis(broker) => broker.last_id(channel).await,
        }
    }

    /// From now on `watcher` is told of every append to `channel`, for as long as somebody holds it.
    pub fn follow(&self, channel: &Channel, watcher: Weak<dyn Watcher>) {
        self.notifier().follow(channel, watcher);
        if let Self::Redis(broker) = self {
            broker.followed_changed();
        }
    }

    /// Lets go of the followers of `channel` that nobody holds any more.
    pub fn remove_dropped_watchers(&self, channel: &Channel) {
        self.notifier().remove_dropped(channel);
    }

    fn notifier(&self) -> &ChangeNotifier {
        match self {
            Self::Embedded(broker) => broker.notifier(),
            Self::Memory(broker) => broker.notifier(),
            Self::Redis(broker) => broker.notifier(),
        }
    }

    /// A real round trip through everything that a publish needs. A broker that works may still deserve warnings.
    ///
    /// # Errors
    /// Why a publish would fail now.
    pub async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.check().await.map(|()| Vec::new()),
            Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(broker) => broker.check().await,
        }
    }
}
