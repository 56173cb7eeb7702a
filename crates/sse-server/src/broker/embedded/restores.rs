//! What the log knows about its restores from copies.
//!
//! A copy lacks what was published after it. A restore records the range of the ids that can be
//! lost, once for the log, and appends a gap record to every open channel:
//!
//! ```text
//! the log       A  B  C  D  E            D and E are published after the copy was made
//! the copy      A  B  C
//! restored      A  B  C          G  F    G is the gap record, F is published later
//!                     after = C ─┘
//!                     lost: every id between C and G
//! ```
//!
//! `after` is the highest id that the clock of the copy had assigned, and `before` is the id of the
//! gap records. No id between the two is in the log, whatever its channel. So a position between them
//! is that of a client that has seen a lost event. A position up to `after` in a channel that the
//! copy has not, or that was deleted, meets no gap record: such a channel begins at `before`.

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, GapReason, Lost},
};

use super::{
    Embedded,
    checksum::{CHECKSUM, seal, unseal},
    error::StoreError,
    reader::read_row,
    record::{put_id, split_id},
    tables::RESTORES,
};
use crate::broker::{BrokerError, ReadFrom};

/// Restores that the log remembers. A position in the range of an older one gets a gap without a
/// range.
const RESTORES_MAX: u64 = 32;

/// Returns the lost range that contains the position of a read.
pub(super) fn lost_range(
    transaction: &ReadTransaction,
    from: ReadFrom,
) -> Result<Option<Lost>, StoreError> {
    match from {
        ReadFrom::Position(Position::After(id) | Position::At(id)) => range_with(transaction, id),
        ReadFrom::Oldest | ReadFrom::Time(_) => Ok(None),
    }
}

/// Returns the range of the restore whose gap records have this id.
pub(super) fn range_before(
    transaction: &ReadTransaction,
    record: EventId,
) -> Result<Option<Lost>, StoreError> {
    let row = transaction
        .open_table(RESTORES)?
        .get((record.ms, record.seq))?;
    row.map(|row| decode(record, row.value())).transpose()
}

fn range_with(transaction: &ReadTransaction, id: EventId) -> Result<Option<Lost>, StoreError> {
    let table = transaction.open_table(RESTORES)?;
    let Some(row) = table.range((id.ms, id.seq)..)?.next() else {
        return Ok(None);
    };
    let (key, row) = row?;
    let (ms, seq) = key.value();
    let lost = decode(EventId::new(ms, seq), row.value())?;
    Ok((lost.after < id && id < lost.before).then_some(lost))
}

/// Reads the ids of all gap records, in ascending order.
pub(super) fn read_ranges(transaction: &ReadTransaction) -> Result<Vec<Lost>, StoreError> {
    let table = transaction.open_table(RESTORES)?;
    let rows = table.iter()?.map(|row| {
        let (key, row) = row?;
        let (ms, seq) = key.value();
        decode(EventId::new(ms, seq), row.value())
    });
    rows.collect()
}

/// Writes the range of a restore, and drops the oldest ones beyond [`RESTORES_MAX`].
pub(super) fn write_range(transaction: &WriteTransaction, lost: Lost) -> Result<(), StoreError> {
    let mut table = transaction.open_table(RESTORES)?;
    let mut content = Vec::with_capacity(16 + CHECKSUM);
    put_id(&mut content, lost.after);
    let row = seal(&key_bytes(lost.before), content);
    table.insert((lost.before.ms, lost.before.seq), row.as_slice())?;
    while table.len()? > RESTORES_MAX {
        table.pop_first()?;
    }
    Ok(())
}

fn decode(before: EventId, sealed: &[u8]) -> Result<Lost, StoreError> {
    let decoded = unseal(&key_bytes(before), sealed).and_then(split_id);
    match decoded {
        Some((after, [])) => Ok(Lost { after, before }),
        _ => Err(StoreError::Damaged(format!("the restore {before}"))),
    }
}

fn key_bytes(id: EventId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    put_id(&mut bytes, id);
    bytes
}

impl Embedded {
    pub(in crate::broker) async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        let channel = channel.clone();
        self.run_blocking(move |shared| {
            let store = &shared.store;
            store.read(|snapshot| loss_spanning(snapshot, &channel, bound))
        })
        .await
    }
}

fn loss_spanning(
    transaction: &ReadTransaction,
    channel: &Channel,
    bound: EventId,
) -> Result<Option<Gap>, StoreError> {
    let Some(lost) = range_with(transaction, bound)? else {
        return Ok(None);
    };
    let row = read_row(transaction, channel)?;
    let has_record = row.count > 0 && row.trimmed < lost.before && lost.before <= row.last;
    Ok(Some(Gap {
        channel: channel.clone(),
        after: lost.after.to_string(),
        oldest: has_record.then_some(lost.before),
        reason: GapReason::LostTail,
        lost: Some(lost),
    }))
}
