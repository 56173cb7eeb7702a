//! The life of channels in a commit batch: settings, the end, deletion and expiry.

use sse_proto::{Channel, EventId};

use super::{
    error::StoreError, keys::Keys, record::ChannelRow, staged_channels::DueChange,
    staged_log::StagedLog,
};
use crate::broker::{
    BrokerError,
    lifecycle::{
        ChannelLife, ChannelSettings, CloseReason, EndMark, Existing, Gate, Incarnation,
        TOMBSTONE_LIFE, Tombstone,
    },
};

/// Tombstones that one commit drops because their time is over.
const TOMBSTONES_PER_COMMIT: usize = 1000;
/// A channel with keys is looked at again after this time, if none of them is known to expire later.
const KEYS_RETRY_MS: u64 = 1000;

/// Returns what a write to `channel` finds.
pub(super) fn gate<'a>(
    log: &StagedLog<'_>,
    channel: &Channel,
    row: Option<ChannelRow>,
    life: Option<&'a ChannelLife>,
) -> Gate<'a> {
    let (_, create, after_delete) = log.classes().rules_of(channel);
    Gate {
        existing: row.map(|row| Existing {
            incarnation: Incarnation(row.number.into()),
            last: row.last,
            has_events: row.has_had_events(),
            end: life.and_then(|life| life.end.as_ref()),
        }),
        noted_id: log.channels.last_id(channel),
        tombstone: log.channels.tombstone(channel),
        origin: log.origin_of(channel),
        create,
        after_delete,
    }
}

fn life_of(log: &StagedLog<'_>, channel: &Channel) -> ChannelLife {
    let life = log.channels.life(channel);
    life.map(|life| ChannelLife::clone(life))
        .unwrap_or_default()
}

/// Sets the settings of a new channel, and indexes it if it can be due. `is_empty` states that no
/// event follows, from which its `ttl` could count.
pub(super) fn set_up(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    settings: ChannelSettings,
    is_empty: bool,
) {
    let log_ms = log.log_ms();
    let life = ChannelLife {
        settings,
        end: None,
        alive_ms: if is_empty { log_ms } else { 0 },
    };
    log.channels.set_life(channel, life);
    if let Some(due_ms) = log.effective(channel).due_ms(false, log_ms) {
        log.channels
            .change_due(channel, DueChange::AtLatest(due_ms));
    }
}

/// Replaces the settings of a channel, and indexes it if it can be due.
pub(super) fn set_settings(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    row: ChannelRow,
    settings: ChannelSettings,
) {
    let life = life_of(log, channel);
    if settings != life.settings {
        let life = ChannelLife { settings, ..life };
        log.channels.set_life(channel, life);
        index_due(log, channel, row);
        // The limits may be lower now.
        log.channels.change_trim(channel, DueChange::AtLatest(0));
    }
}

/// Checks that a closed channel gets no other settings than `ttl_closed`.
pub(super) fn check_settings(
    log: &StagedLog<'_>,
    channel: &Channel,
    settings: ChannelSettings,
) -> Result<(), BrokerError> {
    let Some(life) = log.channels.life(channel) else {
        return Ok(());
    };
    match &life.end {
        Some(end) if !settings.differs_only_in_ttl_closed(life.settings) => {
            Err(BrokerError::ChannelClosed {
                reason: end.reason.clone(),
                end: end.id,
            })
        }
        _ => Ok(()),
    }
}

/// Restarts the `ttl` of an incarnation.
pub(super) fn keep_alive(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    incarnation: Incarnation,
) -> Result<(), BrokerError> {
    let number = log.channels.row(channel).map(|row| row.number.into());
    if number != Some(incarnation.0) {
        return Err(BrokerError::ChannelDeleted);
    }
    let mut life = life_of(log, channel);
    life.alive_ms = log.log_ms();
    log.channels.set_life(channel, life);
    Ok(())
}

/// Closes an open channel. Returns the id of the end.
pub(super) fn close_channel(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    row: ChannelRow,
    reason: CloseReason,
) -> EventId {
    let id = log.next_id();
    let mut life = life_of(log, channel);
    life.end = Some(EndMark {
        id,
        after: row.last,
        has_events: row.has_had_events(),
        reason,
    });
    log.channels.set_life(channel, life);
    index_due(log, channel, row);
    id
}

/// Adds a channel to the index if it can be due.
fn index_due(log: &mut StagedLog<'_>, channel: &Channel, row: ChannelRow) {
    if let Some(due_ms) = due_ms(log, channel, row) {
        log.channels
            .change_due(channel, DueChange::AtLatest(due_ms));
    }
}

/// Returns when a channel is due, without its keys.
fn due_ms(log: &StagedLog<'_>, channel: &Channel, row: ChannelRow) -> Option<u64> {
    let life = life_of(log, channel);
    let written_ms = life.written_ms(row.last);
    log.effective(channel)
        .due_ms(life.end.is_some(), written_ms)
}

/// Deletes a channel, and keeps a tombstone of it. Returns the tombstone, also if the channel was
/// deleted before; `None` if the log knows nothing of the channel.
pub(super) fn delete_channel(log: &mut StagedLog<'_>, channel: &Channel) -> Option<Tombstone> {
    let (row, noted_id) = (log.channels.row(channel), log.channels.last_id(channel));
    let Some(last) = row.map(|row| row.last).or(noted_id) else {
        return log.channels.tombstone(channel);
    };
    let end = life_of(log, channel).end.map(|end| end.id);
    let tombstone = Tombstone {
        last,
        end: end.unwrap_or_else(|| log.next_id()),
        at: log.next_id(),
        has_events: row.is_none_or(|row| row.has_had_events()),
    };
    if let Some(row) = row {
        log.subtract_bytes(row.bytes);
        log.channels.set_deleted(row.number, row.count > 0);
        log.channels.set_row(channel, None);
        log.channels.set_life(channel, ChannelLife::default());
        if row.count > 0 {
            log.defer_trimming();
        }
    } else {
        log.channels.set_last_id(channel, None);
    }
    log.channels.set_tombstone(channel, Some(tombstone));
    limit_tombstones(log);
    Some(tombstone)
}

/// Drops the oldest tombstone if there are too many. New channels then begin after its deletion, so
/// that no older position passes as proved.
fn limit_tombstones(log: &mut StagedLog<'_>) {
    if log.channels.tombstone_count() > log.retention().channels_max
        && let Some((channel, oldest)) = log.channels.oldest_tombstone()
    {
        log.channels.set_tombstone(&channel, None);
        log.raise_origin(oldest.at);
    }
}

/// Drops tombstones whose time is over.
pub(super) fn drop_old_tombstones(log: &mut StagedLog<'_>) {
    let log_ms = log.log_ms();
    for _ in 0..TOMBSTONES_PER_COMMIT {
        match log.channels.oldest_tombstone() {
            Some((channel, oldest)) if is_over(oldest.at.ms, log_ms) => {
                log.channels.set_tombstone(&channel, None);
            }
            _ => return,
        }
    }
}

/// Whether the time of a tombstone with a deletion at this time is over.
pub(super) fn is_over(deleted_ms: u64, log_ms: u64) -> bool {
    let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
    deleted_ms.saturating_add(life_ms) <= log_ms
}

/// Trims or deletes a channel if it is due, and indexes it again unless it was deleted. Returns
/// whether it was deleted.
pub(super) fn expire_channel(
    log: &mut StagedLog<'_>,
    keys: &Keys<'_>,
    channel: &Channel,
) -> Result<bool, StoreError> {
    let Some(row) = log.channels.row(channel) else {
        return Ok(false);
    };
    let due_ms = due_ms(log, channel, row);
    let log_ms = log.log_ms();
    let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= log_ms) else {
        log.channels.change_due(channel, DueChange::Set(due_ms));
        return Ok(false);
    };
    if keys.has_keys(row.number) {
        let retry_ms = log_ms.saturating_add(KEYS_RETRY_MS);
        log.channels
            .change_due(channel, DueChange::Set(Some(retry_ms)));
        return Ok(false);
    }
    let life = life_of(log, channel);
    if life.end.is_some() {
        delete_channel(log, channel);
        return Ok(true);
    }
    let removed = log.remove_oldest(channel, row.count)?;
    // The channel stays in the index, so that a write need not look whether it is there.
    let ttl_ms = due_ms.saturating_sub(life.written_ms(row.last)).max(1);
    let again_ms = if removed < row.count { 0 } else { ttl_ms };
    let again_ms = Some(log_ms.saturating_add(again_ms));
    log.channels.change_due(channel, DueChange::Set(again_ms));
    Ok(false)
}
