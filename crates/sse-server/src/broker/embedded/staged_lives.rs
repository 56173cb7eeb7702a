//! Writes the rows of channels that a batch has changed: those of each table, and what concerns the
//! life of channels, of which most commits change nothing.

use redb::{Table, WriteTransaction};

use super::{
    error::StoreError,
    life_record::{encode_life, encode_tombstone},
    staged_channels::{Changes, ChannelChanges},
    tables::{DELETED, LIVES, TOMBSTONES},
};

/// Writes the lives, the tombstones and the numbers of deleted channels.
pub(super) fn write_lives(
    transaction: &WriteTransaction,
    changes: &ChannelChanges,
) -> Result<(), StoreError> {
    if !changes.lives.is_empty() {
        let lives = transaction.open_table(LIVES)?;
        write_changes(lives, &changes.lives, |name, life| encode_life(name, life))?;
    }
    if !changes.tombstones.is_empty() {
        let tombstones = transaction.open_table(TOMBSTONES)?;
        write_changes(tombstones, &changes.tombstones, |name, tombstone| {
            encode_tombstone(name, *tombstone)
        })?;
    }
    if !changes.deleted.is_empty() {
        write_deleted(transaction, changes)?;
    }
    Ok(())
}

fn write_deleted(
    transaction: &WriteTransaction,
    changes: &ChannelChanges,
) -> Result<(), StoreError> {
    let mut deleted = transaction.open_table(DELETED)?;
    for (number, has_events) in &changes.deleted {
        if *has_events {
            deleted.insert(number, ())?;
        } else {
            deleted.remove(number)?;
        }
    }
    Ok(())
}

/// Writes the changes of a table that has one row per channel.
pub(super) fn write_changes<V>(
    mut table: Table<'_, &'static str, &'static [u8]>,
    changes: &Changes<V>,
    encode: impl Fn(&str, &V) -> Vec<u8>,
) -> Result<(), StoreError> {
    for (channel, change) in changes {
        let name = channel.as_str();
        match change {
            Some(value) => drop(table.insert(name, encode(name, value).as_slice())?),
            None => drop(table.remove(name)?),
        }
    }
    Ok(())
}
