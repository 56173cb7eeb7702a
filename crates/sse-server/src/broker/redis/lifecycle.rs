//! The life of channels over Redis: settings, deletion and lists. `append` has the writes, and
//! `maintenance` what time does.

use std::time::Duration;

use redis::{Script, Value};
use sse_proto::{Channel, Position};

use super::{
    RedisBroker,
    channel_state::{ChannelState, parse_state, parse_tombstone},
    read_gate::ReadKind,
    replies::{into_array, malformed, text},
    scripts::{CONFIGURE, DELETE, DELETE_WHEN_FULL, KEEP_ALIVE, random_suffix},
    session::Session,
    settings_text::settings_text,
    slots::Slot,
    streams::Streams,
    write_reply::channel_closed,
};
use crate::broker::{
    BrokerError, Publisher, Retention,
    idempotency::count_added,
    lifecycle::{
        ChannelDescription, ChannelSettings, ChannelState as State, Classes, Configured,
        Incarnation, ListPage, ListQuery, Tombstone, Write, Written,
    },
};

/// Channels of a list that are read at once.
const LIST_PART: usize = 64;

impl RedisBroker {
    pub(in crate::broker) fn classes(&self) -> &Classes {
        &self.streams.classes
    }

    pub(in crate::broker) fn retention(&self) -> Retention {
        self.streams.retention
    }

    pub(in crate::broker) async fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: Write,
    ) -> Result<Written, BrokerError> {
        let written = self.streams.write(publisher, channel, &write).await?;
        let added = count_added(&write.items, &written.outcomes);
        if added > 0 {
            self.metrics.batch_committed(added);
        }
        Ok(written)
    }

    pub(in crate::broker) async fn delete(
        &self,
        channel: &Channel,
    ) -> Result<Option<Tombstone>, BrokerError> {
        self.streams.delete(channel).await
    }

    pub(in crate::broker) async fn configure(
        &self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<Configured, BrokerError> {
        let created = self.streams.configure(publisher, channel, settings).await?;
        let description = self.streams.describe(channel).await?;
        let description = description
            .ok_or_else(|| BrokerError::Unavailable("the channel is gone".to_owned()))?;
        Ok(Configured {
            created,
            description,
        })
    }

    pub(in crate::broker) async fn describe(
        &self,
        channel: &Channel,
    ) -> Result<Option<ChannelDescription>, BrokerError> {
        self.streams.describe(channel).await
    }

    pub(in crate::broker) async fn list(&self, query: &ListQuery) -> Result<ListPage, BrokerError> {
        self.streams.list(query).await
    }

    pub(in crate::broker) async fn is_ended(
        &self,
        channel: &Channel,
        position: Position,
    ) -> Result<bool, BrokerError> {
        let state = self.streams.read_state(channel).await?;
        Ok(state.end.is_some_and(|end| end.is_seen_at(position))
            || state
                .tombstone
                .is_some_and(|tombstone| tombstone.is_ended(position)))
    }

    pub(in crate::broker) async fn keep_alive(
        &self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        self.streams.keep_alive(channel, incarnation).await
    }
}

impl Streams {
    async fn read_state(&self, channel: &Channel) -> Result<ChannelState, BrokerError> {
        let shard = self.shard(channel).await?;
        let _place = self.enter_gate(&shard, ReadKind::History).await?;
        let [state] = self.query(channel, [self.stream_extent(channel)]).await?;
        parse_state(state)
    }

    async fn delete(&self, channel: &Channel) -> Result<Option<Tombstone>, BrokerError> {
        let mut attempts = self.shards.attempts(channel);
        let reply = loop {
            let session = &mut attempts.session().await?;
            let mut deleted = self
                .delete_in(session, channel, DELETE.of(&self.names))
                .await;
            if matches!(deleted, Err(BrokerError::Full(_))) {
                let script = DELETE_WHEN_FULL.of(&self.names);
                deleted = self.delete_in(session, channel, script).await;
            }
            if !attempts.must_repeat(session) {
                break deleted?;
            }
        };
        self.registry.forget_append(channel);
        match reply {
            Value::Nil => Ok(None),
            reply => text(reply)
                .and_then(|text| parse_tombstone(&text))
                .map(Some)
                .ok_or_else(|| malformed("no tombstone for a deletion")),
        }
    }

    async fn delete_in(
        &self,
        session: &mut Session<'_>,
        channel: &Channel,
        script: &Script,
    ) -> Result<Value, BrokerError> {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(script.get_hash())
            .arg(11)
            .arg(&self.names.deletion(channel))
            .arg(channel.as_str())
            .arg(self.tombstones_max())
            .arg(u8::from(session.waits_for_replicas()));
        self.run_write(channel, (command, script), session).await
    }

    /// Returns whether the channel was created.
    async fn configure(
        &self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<bool, BrokerError> {
        let mut attempts = self.shards.attempts(channel);
        let reply = loop {
            let session = &mut attempts.session().await?;
            let configured = self.configure_in(session, publisher, channel, settings);
            let configured = configured.await;
            if !attempts.must_repeat(session) {
                break configured?;
            }
        };
        self.registry.forget_append(channel);
        // Maintenance looks at the channel now, and computes when it is due.
        self.hints.add(Slot::of(channel), Duration::ZERO);
        let reply = into_array(reply).ok_or_else(invalid_reply)?;
        let word = reply.first().cloned().and_then(text);
        match (word.as_deref(), reply.as_slice()) {
            (Some("created"), _) => Ok(true),
            (Some("changed" | "same"), _) => Ok(false),
            (Some("channel_closed"), [_, reason, end]) => {
                Err(channel_closed(reason, end).unwrap_or_else(invalid_reply))
            }
            _ => Err(invalid_reply()),
        }
    }

    async fn configure_in(
        &self,
        session: &mut Session<'_>,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<Value, BrokerError> {
        let by = (publisher, &self.shares);
        self.registry.register(by, channel, session).await?;
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(CONFIGURE.of(&self.names).get_hash())
            .arg(6)
            .arg(&self.names.state(channel))
            .arg(&self.names.registration(channel))
            .arg(channel.as_str())
            .arg(settings_text(settings))
            .arg(random_suffix())
            .arg(u8::from(session.waits_for_replicas()));
        let script = CONFIGURE.of(&self.names);
        self.run_write(channel, (command, script), session).await
    }

    async fn keep_alive(
        &self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        let mut script = KEEP_ALIVE.of(&self.names).key(&self.names.state(channel));
        script.arg(incarnation.to_string());
        let mut session = self.shards.session(channel).await?;
        let is_kept: bool = session.run(&script).await?;
        if is_kept {
            Ok(())
        } else {
            Err(BrokerError::ChannelDeleted)
        }
    }

    async fn describe(&self, channel: &Channel) -> Result<Option<ChannelDescription>, BrokerError> {
        let state = self.read_state(channel).await?;
        Ok(self.describe_state(channel, state))
    }

    fn describe_state(&self, channel: &Channel, state: ChannelState) -> Option<ChannelDescription> {
        if !state.exists {
            return None;
        }
        let effective = self
            .classes
            .effective(channel, state.settings, &self.retention);
        Some(ChannelDescription {
            channel: channel.clone(),
            events: state.events,
            bytes: None,
            oldest: state.extent.oldest,
            newest: state.newest(),
            settings: state.settings,
            expires_ms: effective.due_ms(state.end.is_some(), state.written_ms()),
            state: state.end.map_or(State::Open, |end| State::Closed {
                reason: end.reason,
                end: end.id,
            }),
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, BrokerError> {
        let kind = ReadKind::History;
        let names = self.first_names(kind, name_range(query), query.limit + 1);
        let names = names.await?;
        let has_more = names.len() > query.limit;
        let names: Vec<Channel> = names
            .iter()
            .take(query.limit)
            .filter_map(|name| name.parse().ok())
            .collect();
        let mut channels = Vec::with_capacity(names.len());
        for part in names.chunks(LIST_PART) {
            // Other reads at Redis have a place between two parts.
            let reads = part
                .iter()
                .map(|channel| (channel.clone(), [self.stream_extent(channel)]));
            let replies = self.shards.each_channel(Some(kind), reads.collect()).await;
            for (channel, reply) in part.iter().zip(replies) {
                let [state] = reply?;
                channels.extend(self.describe_state(channel, parse_state(state)?));
            }
        }
        Ok(ListPage {
            channels,
            next: names.last().filter(|_| has_more).cloned(),
        })
    }
}

/// The range of names of a page, as `ZRANGEBYLEX` writes it.
fn name_range(query: &ListQuery) -> (String, String) {
    let after = query.after.as_ref().map(|after| format!("({after}"));
    let first = format!("[{}", query.prefix);
    let from = match after {
        Some(after) if after[1..] >= first[1..] => after,
        _ => first,
    };
    // Every name is ASCII, so this is above each name that begins with the prefix.
    (from, format!("({}\u{7f}", query.prefix))
}

fn invalid_reply() -> BrokerError {
    BrokerError::OutcomeUnknown("Redis sent an invalid reply to a script".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_list_begins_after_a_name_or_with_the_prefix() {
        let range = |prefix: &str, after: Option<&str>| {
            name_range(&ListQuery {
                prefix: prefix.to_owned(),
                after: after.map(|name| name.parse().unwrap()),
                limit: 10,
            })
        };
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(range("", None), pair("[", "(\u{7f}"));
        assert_eq!(range("a.", None), pair("[a.", "(a.\u{7f}"));
        assert_eq!(range("a.", Some("a.7")), pair("(a.7", "(a.\u{7f}"));
        assert_eq!(range("b", Some("a")), pair("[b", "(b\u{7f}"));
    }
}
