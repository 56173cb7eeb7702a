//! The channels of a log, in the order of their names: those that exist, and those that were
//! forgotten or deleted.

use std::{iter::Peekable, ops::Bound};

use redb::{Range, ReadTransaction};
use sse_proto::{Channel, EventId};

use crate::broker::{
    continuity::Trimmed,
    embedded::{
        error::StoreError,
        life_record::{decode_life, decode_tombstone},
        record::{ChannelRow, decode_forgotten},
        tables::{CHANNELS, FORGOTTEN, LIVES, TOMBSTONES, read_header},
    },
    lifecycle::ChannelLife,
    transfer::{EXAMINED_MAX, LISTED_MAX, SourceChannel, SourceList, SourceState},
};

type Rows = Peekable<Range<'static, &'static str, &'static [u8]>>;

/// Reads a part of the list, which ends after a bounded number of rows.
pub(super) fn read_list(
    transaction: &ReadTransaction,
    after: Option<&Channel>,
    since: Option<EventId>,
) -> Result<SourceList, StoreError> {
    let mut names = Names::after(transaction, after)?;
    let mut channels = Vec::new();
    for _ in 0..EXAMINED_MAX {
        let Some(name) = names.next()? else {
            return list(transaction, channels, None);
        };
        let channel: Channel = name
            .parse()
            .map_err(|_| StoreError::Damaged(format!("the name {name:?} of a channel")))?;
        let found = read_channel(transaction, &channel)?;
        if has_changed(&found, since) {
            channels.push(found);
        }
        if channels.len() == LISTED_MAX {
            return list(transaction, channels, Some(channel));
        }
        names.last = Some(channel);
    }
    let next = names.last.take();
    list(transaction, channels, next)
}

fn list(
    transaction: &ReadTransaction,
    channels: Vec<SourceChannel>,
    next: Option<Channel>,
) -> Result<SourceList, StoreError> {
    Ok(SourceList {
        highest: read_header(transaction)?.highest,
        channels,
        next,
    })
}

/// Whether the channel has a record, an end or a deletion with an id above `since`.
fn has_changed(found: &SourceChannel, since: Option<EventId>) -> bool {
    let state = found.state.as_ref();
    let end = state.and_then(|state| state.end.as_ref());
    let newest = [
        state.map(|state| state.last),
        end.map(|end| end.id),
        found.deletion.map(|deletion| deletion.at),
    ];
    newest.into_iter().flatten().max() > since || since.is_none()
}

/// Reads what the log knows of a channel besides its records.
pub(super) fn read_channel(
    transaction: &ReadTransaction,
    channel: &Channel,
) -> Result<SourceChannel, StoreError> {
    let name = channel.as_str();
    let damaged = |what: &str| StoreError::damaged_channel(channel, what);
    let life = match transaction.open_table(LIVES)?.get(name)? {
        None => ChannelLife::default(),
        Some(row) => decode_life(name, row.value())
            .ok_or_else(|| damaged("its life has a wrong checksum"))?,
    };
    let deletion = match transaction.open_table(TOMBSTONES)?.get(name)? {
        None => None,
        Some(row) => Some(
            decode_tombstone(name, row.value())
                .ok_or_else(|| damaged("its tombstone has a wrong checksum"))?,
        ),
    };
    let row = match transaction.open_table(CHANNELS)?.get(name)? {
        Some(row) => Some(
            ChannelRow::decode(name, row.value())
                .ok_or_else(|| damaged("its row has a wrong checksum"))?,
        ),
        None => None,
    };
    let state = match row {
        Some(row) => Some(state_of(&row, life)),
        None => match transaction.open_table(FORGOTTEN)?.get(name)? {
            Some(last) => {
                let last = decode_forgotten(name, last.value());
                last.map(forgotten_state)
                    .ok_or_else(|| damaged("its last id has a wrong checksum"))
                    .map(Some)?
            }
            None => None,
        },
    };
    Ok(SourceChannel {
        channel: channel.clone(),
        state,
        deletion: deletion.map(Into::into),
    })
}

fn state_of(row: &ChannelRow, life: ChannelLife) -> SourceState {
    SourceState {
        start: row.origin,
        last: row.last,
        trimmed: match Trimmed::through(row.trimmed, row.origin) {
            Trimmed::Through(mark) => Some(mark),
            Trimmed::NothingSince(_) | Trimmed::Somewhere => None,
        },
        oldest: (row.count > 0).then_some(row.oldest),
        records: row.count,
        settings: life.settings.to_array(),
        alive_ms: life.alive_ms,
        end: life.end.map(Into::into),
    }
}

const fn forgotten_state(last: EventId) -> SourceState {
    SourceState {
        start: EventId::ZERO,
        last,
        trimmed: Some(last),
        oldest: None,
        records: 0,
        settings: [None; 5],
        alive_ms: 0,
        end: None,
    }
}

/// The names in three tables, each once.
struct Names {
    tables: [Rows; 3],
    last: Option<Channel>,
}

impl Names {
    fn after(transaction: &ReadTransaction, after: Option<&Channel>) -> Result<Self, StoreError> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let range = (from, Bound::Unbounded);
        Ok(Self {
            tables: [
                transaction
                    .open_table(CHANNELS)?
                    .range::<&str>(range)?
                    .peekable(),
                transaction
                    .open_table(FORGOTTEN)?
                    .range::<&str>(range)?
                    .peekable(),
                transaction
                    .open_table(TOMBSTONES)?
                    .range::<&str>(range)?
                    .peekable(),
            ],
            last: None,
        })
    }

    fn next(&mut self) -> Result<Option<String>, StoreError> {
        let mut first: Option<String> = None;
        for rows in &mut self.tables {
            if let Some(name) = peek_name(rows)?
                && first.as_ref().is_none_or(|first| name < *first)
            {
                first = Some(name);
            }
        }
        let Some(first) = first else {
            return Ok(None);
        };
        for rows in &mut self.tables {
            if peek_name(rows)?.as_ref() == Some(&first) {
                rows.next();
            }
        }
        Ok(Some(first))
    }
}

/// Returns the name in the next row. An error of the file ends the list.
fn peek_name(rows: &mut Rows) -> Result<Option<String>, StoreError> {
    match rows.peek() {
        None => Ok(None),
        Some(Ok((name, _))) => Ok(Some(name.value().to_owned())),
        Some(Err(_)) => match rows.next() {
            Some(Err(error)) => Err(error.into()),
            _ => Ok(None),
        },
    }
}
