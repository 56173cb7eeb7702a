//! The life of channels in memory: settings, deletion, expiry and lists.

use std::time::Instant;

use sse_proto::{Channel, Position};

use super::{channel::ChannelLog, log::Log, trim::trim_all};
use crate::broker::{
    BrokerError, Publisher,
    channel_index::Slot,
    lifecycle::{
        ChannelDescription, ChannelLife, ChannelSettings, ChannelState, Configured, Existing, Gate,
        Incarnation, ListPage, ListQuery, Tombstone,
    },
};

/// Channels that are indexed again in one step, after the classes were replaced.
const INDEXED_PER_STEP: usize = 4000;

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
        let due_ms = effective.due_ms(false, log_ms);
        self.channels.index(channel, due_ms, None);
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
        let log = self.channels.get(channel);
        let due_ms = log.and_then(|log| self.due_ms(channel, log));
        // The limits may be lower now, so the next sweep examines the channel.
        self.channels.index(channel, due_ms, Some(0));
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
        self.follow_classes();
        if !self.clock_guard.observe(log_ms, now) {
            return (Vec::new(), 0);
        }
        self.expire_due(log_ms, expire_max)
    }

    /// Does as [`expire`](Self::expire) at a time that is trusted.
    pub(super) fn expire_due(&mut self, log_ms: u64, expire_max: usize) -> (Vec<Channel>, usize) {
        let mut deleted = Vec::new();
        let mut examined = self.channels.deleted.expire(log_ms, expire_max);
        while examined < expire_max
            && let Some(slot) = self.channels.due.pop(log_ms)
        {
            examined += 1;
            deleted.extend(self.expire_channel(slot, log_ms));
        }
        (deleted, examined)
    }

    /// Indexes some channels again after the classes were replaced. Each call is a step over some of
    /// them, so that neither publishers nor readers wait for all of them.
    fn follow_classes(&mut self) {
        let version = self.classes.version();
        if self.classes_version != version {
            self.classes_version = version;
            self.index_from = Some(Slot::FIRST);
        }
        let Some(first) = self.index_from.take() else {
            return;
        };
        let mut indexed = Vec::new();
        for (nth, (slot, channel, log)) in self.channels.iter_from(first).enumerate() {
            if nth == INDEXED_PER_STEP {
                self.index_from = Some(slot);
                break;
            }
            let settings = log.settings();
            let effective = self.classes.effective(channel, settings, &self.retention);
            let sweep_ms = log.next_sweep_ms(&effective);
            indexed.push((slot, self.due_ms(channel, log), sweep_ms));
        }
        for (slot, due_ms, sweep_ms) in indexed {
            self.channels.index_at(slot, due_ms, sweep_ms);
        }
    }

    /// Trims or deletes a channel if it is due, and indexes it again if it is not deleted. Returns
    /// the channel if it was deleted.
    fn expire_channel(&mut self, slot: Slot, log_ms: u64) -> Option<Channel> {
        let (channel, log) = self.channels.at(slot)?;
        let due_ms = self.due_ms(channel, log)?;
        let keys_ms = log.keys.last_expiry_ms();
        let written_ms = log.life().written_ms(log.last());
        if due_ms.max(keys_ms) > log_ms {
            self.channels.due.set(slot, Some(due_ms.max(keys_ms)));
            return None;
        }
        if log.end().is_some() {
            let channel = channel.clone();
            self.delete(&channel, log_ms);
            return Some(channel);
        }
        let trim = |log: &mut ChannelLog| trim_all(log, usize::MAX);
        let removed = self.channels.update_at(slot, trim).unwrap_or_default();
        self.bytes -= removed.bytes;
        // The channel stays in the index, so that a write need not look whether it is there.
        let ttl_ms = due_ms.saturating_sub(written_ms).max(1);
        let again_ms = log_ms.saturating_add(ttl_ms);
        self.channels.due.set(slot, Some(again_ms));
        None
    }
}
