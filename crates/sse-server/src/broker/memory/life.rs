//! The life of channels in memory: settings, deletion, expiry and lists.

use std::time::Instant;

use sse_proto::{Channel, Position};

use super::{channel::ChannelLog, log::Log, trim::trim_all};
use crate::broker::{
    BrokerError, Publisher,
    lifecycle::{
        ChannelDescription, ChannelLife, ChannelSettings, ChannelState, Configured, Existing, Gate,
        Incarnation, ListPage, ListQuery, Tombstone,
    },
};

impl Log {
    /// Returns what a write to `channel` finds.
    pub(super) fn gate(&self, channel: &Channel) -> Gate<'_> {
        let existing = self.channels.get(channel).map(|log| Existing {
            incarnation: Incarnation(log.number),
            last: log.last(),
            has_events: log.has_had_events(),
            end: log.end(),
        });
        let (_, create, after_delete) = self.classes.rules_of(channel);
        Gate {
            existing,
            noted_id: self.channels.noted_id(channel),
            tombstone: self.channels.deleted.tombstone(channel),
            origin: self.channels.last_id(channel),
            create,
            after_delete,
        }
    }

    /// Sets the settings of a new channel, and indexes it if it can be due. `is_empty` states that no
    /// event follows, from which its `ttl` could count.
    pub(super) fn set_up(
        &mut self,
        channel: &Channel,
        settings: ChannelSettings,
        is_empty: bool,
        now_ms: u64,
    ) {
        let log_ms = self.log_ms(now_ms);
        let alive_ms = if is_empty { log_ms } else { 0 };
        self.channels.update(channel, |log| {
            log.set_life(ChannelLife {
                settings,
                end: None,
                alive_ms,
            });
        });
        let effective = self.classes.effective(channel, settings, &self.retention);
        if let Some(due_ms) = effective.due_ms(false, log_ms) {
            self.channels.due.add(channel, due_ms);
        }
    }

    /// Adds a channel to the index if it can be due.
    fn index_due(&mut self, channel: &Channel) {
        if let Some(due_ms) = self
            .channels
            .get(channel)
            .and_then(|log| self.due_ms(channel, log))
        {
            self.channels.due.add(channel, due_ms);
        }
    }

    /// Returns when a channel is due, without its keys.
    fn due_ms(&self, channel: &Channel, log: &ChannelLog) -> Option<u64> {
        let life = log.life();
        let effective = self
            .classes
            .effective(channel, life.settings, &self.retention);
        effective.due_ms(life.end.is_some(), life.written_ms(log.last()))
    }

    /// Replaces the settings of a channel, and creates it if it does not exist.
    pub(super) fn configure(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
        now_ms: u64,
    ) -> Result<Configured, BrokerError> {
        let created = match self.channels.get(channel) {
            None => {
                self.ensure_exists(publisher, channel, (settings, true), now_ms)?;
                true
            }
            Some(log) => {
                let old = log.settings();
                if let Some(end) = log.end()
                    && !settings.differs_only_in_ttl_closed(old)
                {
                    return Err(BrokerError::ChannelClosed {
                        reason: end.reason.clone(),
                        end: end.id,
                    });
                }
                if old != settings {
                    self.replace_settings(channel, settings);
                }
                false
            }
        };
        let description = self.describe(channel);
        let description = description
            .ok_or_else(|| BrokerError::Unavailable("the channel is gone".to_owned()))?;
        Ok(Configured {
            created,
            description,
        })
    }

    fn replace_settings(&mut self, channel: &Channel, settings: ChannelSettings) {
        self.channels.update(channel, |log| {
            let life = log.life();
            log.set_life(ChannelLife { settings, ..life });
        });
        self.index_due(channel);
    }

    /// Restarts the `ttl` of an incarnation.
    pub(super) fn keep_alive(
        &mut self,
        channel: &Channel,
        incarnation: Incarnation,
        now_ms: u64,
    ) -> Result<(), BrokerError> {
        let log_ms = self.log_ms(now_ms);
        let is_kept = self.channels.update(channel, |log| {
            let is_same = log.number == incarnation.0;
            if is_same {
                let mut life = log.life();
                life.alive_ms = log_ms;
                log.set_life(life);
            }
            is_same
        });
        if is_kept == Some(true) {
            Ok(())
        } else {
            Err(BrokerError::ChannelDeleted)
        }
    }

    /// Deletes a channel. Returns `None` if the log knows nothing of it.
    pub(super) fn delete(&mut self, channel: &Channel, now_ms: u64) -> Option<Tombstone> {
        let exists = self.channels.get(channel).is_some();
        if !exists && self.channels.noted_id(channel).is_none() {
            return self.channels.deleted.tombstone(channel);
        }
        let (clock, channels_max) = (&mut self.clock, self.retention.channels_max);
        let (tombstone, bytes) = self.channels.delete(channel, clock, now_ms, channels_max);
        self.bytes -= bytes;
        Some(tombstone)
    }

    /// Whether a client at `position` has seen the end of the channel.
    pub(super) fn is_ended(&self, channel: &Channel, position: Position) -> bool {
        let end = self.channels.get(channel).and_then(ChannelLog::end);
        let tombstone = self.channels.deleted.tombstone(channel);
        end.is_some_and(|end| end.is_seen_at(position))
            || tombstone.is_some_and(|tombstone| tombstone.is_ended(position))
    }

    /// Describes a channel; returns `None` if it does not exist.
    pub(super) fn describe(&self, channel: &Channel) -> Option<ChannelDescription> {
        let log = self.channels.get(channel)?;
        let state = match log.end() {
            Some(end) => ChannelState::Closed {
                reason: end.reason.clone(),
                end: end.id,
            },
            None => ChannelState::Open,
        };
        Some(ChannelDescription {
            channel: channel.clone(),
            state,
            events: log.events().len() as u64,
            bytes: Some(log.bytes()),
            oldest: log.oldest(),
            newest: log.newest(),
            settings: log.settings(),
            expires_ms: self.due_ms(channel, log),
        })
    }

    /// Returns a page of a list.
    pub(super) fn list(&self, query: &ListQuery) -> ListPage {
        let mut names = self
            .channels
            .names_after(&query.prefix, query.after.as_ref());
        let page = names.by_ref().take(query.limit);
        let channels: Vec<_> = page.filter_map(|name| self.describe(name)).collect();
        let last = channels.last().map(|last| last.channel.clone());
        let next = names.next().and(last);
        ListPage { channels, next }
    }

    /// Trims or deletes up to `expire_max` channels that are due, and drops old tombstones. Returns
    /// the channels that were deleted, and how many were looked at.
    pub(super) fn expire(
        &mut self,
        now_ms: u64,
        now: Instant,
        expire_max: usize,
    ) -> (Vec<Channel>, usize) {
        let log_ms = self.log_ms(now_ms);
        let mut deleted = Vec::new();
        self.follow_classes();
        if !self.clock_guard.observe(log_ms, now) {
            return (deleted, 0);
        }
        let mut examined = self.channels.deleted.expire(log_ms, expire_max);
        while examined < expire_max
            && let Some(channel) = self.channels.due.pop(log_ms)
        {
            examined += 1;
            if self.expire_channel(&channel, log_ms) {
                deleted.push(channel);
            }
        }
        (deleted, examined)
    }

    /// Indexes all channels again if the classes were replaced.
    fn follow_classes(&mut self) {
        let version = self.classes.version();
        if self.classes_version != version {
            self.classes_version = version;
            let names: Vec<_> = self.channels.names_after("", None).cloned().collect();
            for name in names {
                self.index_due(&name);
            }
        }
    }

    /// Trims or deletes a channel if it is due, and indexes it again if it is not deleted. Returns
    /// whether it was deleted.
    fn expire_channel(&mut self, channel: &Channel, log_ms: u64) -> bool {
        let Some(log) = self.channels.get(channel) else {
            return false;
        };
        let Some(due_ms) = self.due_ms(channel, log) else {
            return false;
        };
        let keys_ms = log.keys.last_expiry_ms();
        let is_closed = log.end().is_some();
        if due_ms.max(keys_ms) > log_ms {
            self.channels.due.add(channel, due_ms.max(keys_ms));
            return false;
        }
        if is_closed {
            self.delete(channel, log_ms);
            return true;
        }
        let removed = self
            .channels
            .update(channel, |log| trim_all(log, usize::MAX));
        self.bytes -= removed.unwrap_or_default().bytes;
        // The channel stays in the index, so that a write need not look whether it is there.
        let ttl_ms = due_ms.saturating_sub(self.written_ms(channel)).max(1);
        self.channels
            .due
            .add(channel, log_ms.saturating_add(ttl_ms));
        false
    }

    fn written_ms(&self, channel: &Channel) -> u64 {
        let log = self.channels.get(channel);
        log.map_or(0, |log| log.life().written_ms(log.last()))
    }
}
