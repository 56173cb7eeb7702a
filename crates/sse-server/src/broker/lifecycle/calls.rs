//! The calls of a broker that concern the life of a channel. The module documentation of
//! [`lifecycle`](super) has the contract.

use sse_proto::{Channel, Position};

use super::{
    ChannelDescription, ChannelSettings, Classes, Effective, Incarnation, ListPage, ListQuery,
    Tombstone, Write, Written,
};
use crate::broker::{Broker, BrokerError, Publisher};

/// The result of [`Broker::configure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Whether the channel did not exist before.
    pub created: bool,
    /// The channel after the change.
    pub description: ChannelDescription,
}

impl Broker {
    /// The classes of channels. A caller may replace them at any time; limits that become lower
    /// apply from the next write or sweep of a channel on.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        match self {
            Self::Embedded(broker) => broker.classes(),
            Self::Memory(broker) => broker.classes(),
            Self::Redis(broker) => broker.classes(),
        }
    }

    /// Returns what applies to a channel with these settings.
    #[must_use]
    pub fn effective(&self, channel: &Channel, settings: ChannelSettings) -> Effective {
        let retention = match self {
            Self::Embedded(broker) => broker.retention(),
            Self::Memory(broker) => broker.retention(),
            Self::Redis(broker) => broker.retention(),
        };
        self.classes().effective(channel, settings, &retention)
    }

    /// Whether the log counts bytes per channel, so that `history_bytes` has an effect.
    #[must_use]
    pub const fn counts_bytes(&self) -> bool {
        !matches!(self, Self::Redis(_))
    }

    /// Carries out a write: its items, its condition and its end, in one step.
    ///
    /// # Errors
    ///
    /// Every error of [`append_idempotent`](Self::append_idempotent), and
    /// [`ChannelClosed`](BrokerError::ChannelClosed), [`ChannelDeleted`](BrokerError::ChannelDeleted),
    /// [`DeletedRecently`](BrokerError::DeletedRecently),
    /// [`NoSuchChannel`](BrokerError::NoSuchChannel),
    /// [`ConditionFailed`](BrokerError::ConditionFailed).
    pub async fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: Write,
    ) -> Result<Written, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.write(publisher, channel, write).await,
            Self::Memory(broker) => broker.write(publisher, channel, &write),
            Self::Redis(broker) => broker.write(publisher, channel, write).await,
        }
    }

    /// Deletes `channel`: its events, keys and settings. Returns its tombstone, also if it was
    /// deleted before; `None` if there is neither a channel nor a tombstone.
    ///
    /// A channel that was forgotten to make room is deleted like an existing one, because readers can
    /// still continue from its last id. A deletion needs no space and is allowed in a full log.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`OutcomeUnknown`](BrokerError::OutcomeUnknown).
    pub async fn delete(&self, channel: &Channel) -> Result<Option<Tombstone>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.delete(channel).await,
            Self::Memory(broker) => Ok(broker.delete(channel)),
            Self::Redis(broker) => broker.delete(channel).await,
        }
    }

    /// Replaces all settings of `channel`, and creates the channel if it does not exist, whatever
    /// its class says about creation.
    ///
    /// Settings that the channel has already need no commit. The creation counts as a write for
    /// `ttl`, and a later change does not.
    ///
    /// # Errors
    ///
    /// [`ChannelClosed`](BrokerError::ChannelClosed) if the channel is closed and the settings differ
    /// in more than `ttl_closed_ms`; the errors of a channel that is created, as of
    /// [`append`](Self::append).
    pub async fn configure(
        &self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<Configured, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.configure(publisher, channel, settings).await,
            Self::Memory(broker) => broker.configure(publisher, channel, settings),
            Self::Redis(broker) => broker.configure(publisher, channel, settings).await,
        }
    }

    /// Describes `channel`; returns `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn describe(
        &self,
        channel: &Channel,
    ) -> Result<Option<ChannelDescription>, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.describe(channel).await,
            Self::Memory(broker) => Ok(broker.describe(channel)),
            Self::Redis(broker) => broker.describe(channel).await,
        }
    }

    /// Lists channels in byte order of their names.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn list(&self, query: &ListQuery) -> Result<ListPage, BrokerError> {
        match self {
            Self::Embedded(broker) => broker.list(query).await,
            Self::Memory(broker) => Ok(broker.list(query)),
            Self::Redis(broker) => broker.list(query).await,
        }
    }

    /// Whether a client at `position` has seen the end: the channel is closed, and the position is
    /// after the end or after a later id, or the channel was deleted, and the position is after the
    /// end of the deleted incarnation.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
    pub async fn is_ended(
        &self,
        channel: &Channel,
        position: Position,
    ) -> Result<bool, BrokerError> {
        match self {
            Self::Embedded(broker) => Ok(broker.is_ended(channel, position)),
            Self::Memory(broker) => Ok(broker.is_ended(channel, position)),
            Self::Redis(broker) => broker.is_ended(channel, position).await,
        }
    }

    /// Restarts the `ttl` of `channel`, as a write would, for a streaming publish that is silent. A
    /// caller does so four times per `ttl`.
    ///
    /// # Errors
    ///
    /// [`ChannelDeleted`](BrokerError::ChannelDeleted) if this incarnation does not exist any more,
    /// [`Unavailable`](BrokerError::Unavailable).
    pub async fn keep_alive(
        &self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(broker) => broker.keep_alive(channel, incarnation).await,
            Self::Memory(broker) => broker.keep_alive(channel, incarnation),
            Self::Redis(broker) => broker.keep_alive(channel, incarnation).await,
        }
    }
}
