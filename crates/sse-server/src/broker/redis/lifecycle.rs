//! The life of channels over Redis, which is not supported yet: a plain write is an append, and
//! every other call fails with [`BrokerError::NotSupported`].

use sse_proto::{Channel, Position};

use super::RedisBroker;
use crate::broker::{
    BrokerError, Publisher, Retention,
    idempotency::AppendOutcome,
    lifecycle::{
        ChannelDescription, ChannelSettings, Classes, Configured, Incarnation, ListPage, ListQuery,
        Tombstone, Write, Written,
    },
};

#[expect(clippy::unused_async, reason = "the calls will ask Redis")]
impl RedisBroker {
    pub(in crate::broker) const fn classes(&self) -> &Classes {
        &self.classes
    }

    pub(in crate::broker) const fn retention(&self) -> Retention {
        self.retention
    }

    pub(in crate::broker) async fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: Write,
    ) -> Result<Written, BrokerError> {
        // No channel can be deleted yet, so each has one incarnation.
        let write = Write {
            incarnation: None,
            ..write
        };
        if !write.is_plain() {
            return Err(BrokerError::NotSupported(
                "a condition, an end or a setting",
            ));
        }
        let items = write.items;
        let outcomes = if items.iter().any(|item| item.idempotency.is_some()) {
            self.append_idempotent(publisher, channel, &items).await?
        } else {
            let events = items.into_iter().flat_map(|item| item.events).collect();
            let ids = self.append(publisher, channel, events).await?;
            vec![AppendOutcome::new(ids)]
        };
        let newest = outcomes.last().map(|outcome| outcome.ids.last);
        Ok(Written {
            newest: newest.unwrap_or_default(),
            outcomes,
            end: None,
            incarnation: Incarnation(0),
        })
    }

    pub(in crate::broker) async fn delete(
        &self,
        _channel: &Channel,
    ) -> Result<Option<Tombstone>, BrokerError> {
        Err(BrokerError::NotSupported("deleting a channel"))
    }

    pub(in crate::broker) async fn configure(
        &self,
        _publisher: Publisher,
        _channel: &Channel,
        _settings: ChannelSettings,
    ) -> Result<Configured, BrokerError> {
        Err(BrokerError::NotSupported("configuring a channel"))
    }

    pub(in crate::broker) async fn describe(
        &self,
        _channel: &Channel,
    ) -> Result<Option<ChannelDescription>, BrokerError> {
        Err(BrokerError::NotSupported("describing a channel"))
    }

    pub(in crate::broker) async fn list(
        &self,
        _query: &ListQuery,
    ) -> Result<ListPage, BrokerError> {
        Err(BrokerError::NotSupported("listing channels"))
    }

    pub(in crate::broker) async fn is_ended(
        &self,
        _channel: &Channel,
        _position: Position,
    ) -> Result<bool, BrokerError> {
        Ok(false)
    }

    pub(in crate::broker) async fn keep_alive(
        &self,
        _channel: &Channel,
        _incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        Ok(())
    }
}
