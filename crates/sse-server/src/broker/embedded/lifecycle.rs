//! The calls that concern the life of channels.

use redb::ReadTransaction;
use sse_proto::{Channel, Position};

use super::{
    Embedded, error::StoreError, reader::read_life, record::ChannelRow, request::Request,
    tables::CHANNELS,
};
use crate::{
    broker::{
        BrokerError, Publisher, Retention,
        idempotency::AppendItem,
        lifecycle::{
            ChannelDescription, ChannelSettings, ChannelState, Classes, Configured, Incarnation,
            ListPage, ListQuery, Tombstone, Write, Written,
        },
    },
    metrics::Waiting,
};

impl Embedded {
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
        let bytes = write.items.iter().map(AppendItem::size).sum();
        let channel = channel.clone();
        let write = |reply| Request::Write {
            publisher,
            channel,
            write,
            bytes,
            reply,
        };
        let _waiting = Waiting::new(&self.shared.waiting);
        self.request(write, BrokerError::OutcomeUnknown).await
    }

    pub(in crate::broker) async fn delete(
        &self,
        channel: &Channel,
    ) -> Result<Option<Tombstone>, BrokerError> {
        let channel = channel.clone();
        let delete = |reply| Request::Delete { channel, reply };
        self.request(delete, BrokerError::OutcomeUnknown).await
    }

    pub(in crate::broker) async fn configure(
        &self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<Configured, BrokerError> {
        if let Some(description) = self.describe(channel).await?
            && description.settings == settings
        {
            return Ok(Configured {
                created: false,
                description,
            });
        }
        let name = channel.clone();
        let configure = |reply| Request::Configure {
            publisher,
            channel: name,
            settings,
            reply,
        };
        let created = self.request(configure, BrokerError::OutcomeUnknown).await?;
        let description = self.describe(channel).await?;
        let description = description
            .ok_or_else(|| BrokerError::Unavailable("the channel is gone".to_owned()))?;
        Ok(Configured {
            created,
            description,
        })
    }

    pub(in crate::broker) async fn keep_alive(
        &self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        let channel = channel.clone();
        let keep_alive = |reply| Request::KeepAlive {
            channel,
            incarnation,
            reply,
        };
        self.request(keep_alive, BrokerError::OutcomeUnknown).await
    }

    pub(in crate::broker) fn is_ended(&self, channel: &Channel, position: Position) -> bool {
        self.shared.state().is_ended(channel, position)
    }

    pub(in crate::broker) async fn describe(
        &self,
        channel: &Channel,
    ) -> Result<Option<ChannelDescription>, BrokerError> {
        let (channel, describer) = (channel.clone(), self.describer());
        self.run_blocking(move |shared| {
            shared.store.read(|snapshot| {
                let rows = snapshot.open_table(CHANNELS)?;
                let Some(row) = rows.get(channel.as_str())? else {
                    return Ok(None);
                };
                describer.describe(snapshot, channel, row.value()).map(Some)
            })
        })
        .await
    }

    pub(in crate::broker) async fn list(&self, query: &ListQuery) -> Result<ListPage, BrokerError> {
        let (query, describer) = (query.clone(), self.describer());
        self.run_blocking(move |shared| {
            let store = &shared.store;
            store.read(|snapshot| describer.list(snapshot, &query))
        })
        .await
    }

    fn describer(&self) -> Describer {
        Describer {
            classes: self.classes.clone(),
            retention: self.retention,
        }
    }
}

/// Describes channels from a snapshot.
struct Describer {
    classes: Classes,
    retention: Retention,
}

impl Describer {
    fn list(&self, snapshot: &ReadTransaction, query: &ListQuery) -> Result<ListPage, StoreError> {
        let rows = snapshot.open_table(CHANNELS)?;
        let after = query.after.as_ref().map_or("", |after| after.as_str());
        let mut channels = Vec::new();
        for entry in rows.range(query.prefix.as_str().max(after)..)? {
            let (name, row) = entry?;
            let name = name.value();
            if !name.starts_with(&query.prefix) {
                break;
            }
            if name == after {
                continue;
            }
            if channels.len() == query.limit {
                let last = channels
                    .last()
                    .map(|last: &ChannelDescription| &last.channel);
                let next = last.cloned();
                return Ok(ListPage { channels, next });
            }
            let channel = name.parse().map_err(|_| damaged_row(name))?;
            channels.push(self.describe(snapshot, channel, row.value())?);
        }
        Ok(ListPage {
            channels,
            next: None,
        })
    }

    fn describe(
        &self,
        snapshot: &ReadTransaction,
        channel: Channel,
        row: &[u8],
    ) -> Result<ChannelDescription, StoreError> {
        let name = channel.as_str();
        let row = ChannelRow::decode(name, row).ok_or_else(|| damaged_row(name))?;
        let life = read_life(snapshot, &channel)?.unwrap_or_default();
        let written_ms = life.written_ms(row.last);
        let effective = self
            .classes
            .effective(&channel, life.settings, &self.retention);
        let newest = life.end.as_ref().map_or(row.last, |end| end.id);
        Ok(ChannelDescription {
            channel,
            events: row.count,
            bytes: Some(row.bytes),
            oldest: (row.count > 0).then_some(row.oldest),
            newest,
            settings: life.settings,
            expires_ms: effective.due_ms(life.end.is_some(), written_ms),
            state: life
                .end
                .map_or(ChannelState::Open, |end| ChannelState::Closed {
                    reason: end.reason,
                    end: end.id,
                }),
        })
    }
}

fn damaged_row(name: &str) -> StoreError {
    StoreError::Damaged(format!("the row of channel {name:?} has a wrong checksum"))
}
