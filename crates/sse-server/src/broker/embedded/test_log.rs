//! A log in memory whose clock the test sets, for the tests of appends, trimming, channels and
//! keys.

use std::{num::NonZeroUsize, time::Duration};

use sse_proto::{Event, EventId, Position};

use super::{
    commit::CommitBatch, committed_state::CommittedState, error::AppendError, open::Location,
    reader, record::ChannelRow, recover::load_state, store::Store,
};
use crate::broker::{
    BrokerError, Continuity, PageLimits, Publisher, ReadFrom, Retention,
    client_shares::ClientShares,
    idempotency::{AppendItem, AppendOutcome, Fingerprint, IdempotencyKey, KeyLimits},
    lifecycle::{Classes, Write},
};

/// A log with room for two channels of five events each, and for events up to one second old.
pub(super) struct TestLog {
    pub(super) store: Store,
    pub(super) state: CommittedState,
    pub(super) retention: Retention,
    pub(super) shares: ClientShares,
    /// Who appends.
    pub(super) publisher: Publisher,
    /// True if the test damaged the file, so that its state cannot be loaded.
    pub(super) is_damaged: bool,
}

impl TestLog {
    pub(super) fn new() -> Self {
        let store = Store::open(Location::Memory).unwrap();
        let state = load_state(&store, EventId::ZERO).unwrap();
        let retention = Retention {
            events_max: NonZeroUsize::new(5).unwrap(),
            age_max: Duration::from_secs(1),
            bytes_max: u64::MAX,
            channels_max: 2,
            keys: KeyLimits {
                window: Duration::from_millis(100),
                keys_max: 3,
                bytes_max: u64::MAX,
            },
        };
        Self {
            store,
            state,
            shares: ClientShares::new(&retention),
            publisher: Publisher::default(),
            retention,
            is_damaged: false,
        }
    }

    /// Appends `count` events and sweeps, in one commit that may trim `trims_max` events more than
    /// it appends. Returns whether trimming is left to do.
    pub(super) fn append(
        &mut self,
        channel: &str,
        count: usize,
        now_ms: u64,
        trims_max: u64,
    ) -> Result<bool, BrokerError> {
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "x".into(),
        };
        let item = AppendItem {
            events: vec![event; count],
            idempotency: None,
        };
        let items = if count == 0 { vec![] } else { vec![item] };
        self.append_items(channel, &items, now_ms, trims_max)
            .map(|(_, more_to_trim)| more_to_trim)
    }

    /// Appends items and sweeps. Returns their outcomes, and whether trimming is left to do.
    pub(super) fn append_items(
        &mut self,
        channel: &str,
        items: &[AppendItem],
        now_ms: u64,
        trims_max: u64,
    ) -> Result<(Vec<AppendOutcome>, bool), BrokerError> {
        let (state, retention, shares) = (&self.state, &self.retention, &self.shares);
        let (outcomes, change) = self
            .store
            .write(|transaction| {
                let classes = Classes::default();
                let limits = (retention, &classes);
                let mut batch =
                    CommitBatch::open(transaction, state, limits, shares, now_ms, trims_max)?;
                let channel = channel.parse().unwrap();
                let write = Write::of_items(items.to_vec());
                let written = if items.is_empty() {
                    Ok(Vec::new())
                } else {
                    let written = batch.write(self.publisher, &channel, &write, &Ok(()));
                    written.map(|staged| staged.written.outcomes)
                };
                let outcomes = match written {
                    Err(AppendError::Store(error)) => return Err(error),
                    Err(AppendError::Rejected(error)) => Err(error),
                    Ok(outcomes) => Ok(outcomes),
                };
                batch.sweep()?;
                Ok((outcomes, batch.finish()?))
            })
            .unwrap();
        let more_to_trim = change.more_to_trim;
        self.state.apply(change);
        if !self.is_damaged {
            self.assert_state_is_on_disk();
        }
        outcomes.map(|outcomes| (outcomes, more_to_trim))
    }

    fn assert_state_is_on_disk(&self) {
        let (state, loaded) = (
            &self.state,
            load_state(&self.store, self.state.clock.highest()).unwrap(),
        );
        assert_eq!(loaded.channels.all(), state.channels.all());
        assert_eq!(
            loaded.channels.forgotten().all(),
            state.channels.forgotten().all()
        );
        assert_eq!((loaded.bytes, loaded.origin), (state.bytes, state.origin));
        assert_eq!(
            loaded.channels.keys().counts(),
            state.channels.keys().counts()
        );
    }

    /// Appends an item with one event. Returns the millisecond of its id, and whether it is a
    /// duplicate.
    pub(super) fn append_item(
        &mut self,
        channel: &str,
        item: AppendItem,
        now_ms: u64,
    ) -> Result<(u64, bool), BrokerError> {
        let (outcomes, _) = self.append_items(channel, &[item], now_ms, 100)?;
        Ok((outcomes[0].ids.first.ms, outcomes[0].duplicate))
    }

    /// Returns how a page after this id starts.
    pub(super) fn start(&self, channel: &str, after: EventId) -> Continuity {
        let limits = PageLimits {
            events_max: 100,
            bytes_max: 1 << 20,
        };
        let from = ReadFrom::Position(Position::After(after));
        self.store
            .read(|read| reader::read_page(read, &channel.parse().unwrap(), from, limits))
            .unwrap()
            .start
    }

    /// Returns the number of events of a channel.
    pub(super) fn count(&self, channel: &str) -> u64 {
        self.row(channel).map_or(0, |row| row.count)
    }

    /// Returns the row of a channel.
    pub(super) fn row(&self, channel: &str) -> Option<ChannelRow> {
        self.state.channels.row(&channel.parse().unwrap())
    }
}

/// An item of one event with this data and key.
pub(super) fn item(key: u128, data: &str) -> AppendItem {
    let events = vec![Event {
        kind: "click".parse().unwrap(),
        data: data.into(),
    }];
    let idempotency = Some(IdempotencyKey {
        key: key.into(),
        content: Fingerprint::of_events(&events),
    });
    AppendItem {
        events,
        idempotency,
    }
}
