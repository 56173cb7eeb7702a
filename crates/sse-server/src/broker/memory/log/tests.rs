//! Tests of the log in memory.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use proptest::{collection::vec, prelude::*};
use sse_proto::{Event, Position};

use super::{super::channel::event_bytes, *};
use crate::broker::{
    Continuity,
    idempotency::{Fingerprint, IdempotencyKey, KeyLimits},
};

/// A log with room for two channels of five events each, and for events up to one second old.
fn log() -> Log {
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
    Log::new(retention, Classes::default(), 0)
}

fn events(data: &str, count: usize) -> Vec<Event> {
    vec![
        Event {
            kind: "click".parse().unwrap(),
            data: data.into()
        };
        count
    ]
}

impl Log {
    /// Appends to a channel and sweeps.
    fn add(&mut self, channel: &str, count: usize, now_ms: u64) -> Result<(), BrokerError> {
        let item = AppendItem {
            events: events("x", count),
            idempotency: None,
        };
        let publisher = Publisher::default();
        let write = Write::of_items(vec![item]);
        self.write(publisher, &channel.parse().unwrap(), &write, now_ms)?;
        while self.sweep(now_ms, 2) {}
        self.assert_bytes();
        Ok(())
    }

    /// Appends an event with a key. Returns the millisecond of its id, and whether it is a
    /// duplicate.
    fn keyed(
        &mut self,
        channel: &str,
        key: u128,
        data: &str,
        now_ms: u64,
    ) -> Result<(u64, bool), BrokerError> {
        let events = events(data, 1);
        let idempotency = Some(IdempotencyKey {
            key: key.into(),
            content: Fingerprint::of_events(&events),
        });
        let write = Write::of_items(vec![AppendItem {
            events,
            idempotency,
        }]);
        let publisher = Publisher::default();
        let outcomes = self
            .write(publisher, &channel.parse().unwrap(), &write, now_ms)?
            .outcomes;
        self.assert_bytes();
        Ok((outcomes[0].ids.first.ms, outcomes[0].duplicate))
    }

    fn assert_bytes(&self) {
        let events = self.channels.iter().flat_map(|log| log.events().iter());
        let bytes = events.map(|event| event_bytes(&event));
        assert_eq!(self.bytes, bytes.sum::<u64>());
    }

    fn count(&self, channel: &str) -> usize {
        self.channels
            .get(&channel.parse().unwrap())
            .map_or(0, |log| log.events().len())
    }

    fn start(&self, channel: &str, after: EventId) -> Continuity {
        let limits = PageLimits {
            events_max: 100,
            bytes_max: 1 << 20,
        };
        self.read(
            &channel.parse().unwrap(),
            ReadFrom::Position(Position::After(after)),
            limits,
        )
        .start
    }
}

#[test]
fn an_idle_channel_makes_room_and_continues_from_its_last_id() {
    let mut log = log();
    log.add("a", 3, 1000).unwrap();
    log.add("b", 3, 1500).unwrap();
    assert!(matches!(
        log.add("c", 1, 1900),
        Err(BrokerError::TooManyChannels(_))
    ));
    // The events of `a` are too old now, so `c` replaces it.
    log.add("b", 1, 2100).unwrap();
    log.add("c", 1, 2200).unwrap();
    assert_eq!((log.count("a"), log.count("c")), (0, 1));
    let last_of_a = EventId::new(1000, 2);
    assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
    assert_ne!(
        log.start("a", EventId::new(1000, 1)),
        Continuity::Contiguous
    );
    assert_eq!(log.start("never", EventId::ZERO), Continuity::Contiguous);
    log.add("a", 1, 4000).unwrap();
    assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
    assert_ne!(log.start("a", EventId::ZERO), Continuity::Contiguous);
}

#[test]
fn a_position_in_a_channel_whose_last_id_was_dropped_is_not_proved() {
    let mut log = log();
    for (number, channel) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
        log.add(channel, 1, 10_000 * (number as u64 + 1)).unwrap();
    }
    assert_eq!(
        (log.channels.iter().count(), log.channels.forgotten_count()),
        (2, 2)
    );
    assert_ne!(
        log.start("a", EventId::new(10_000, 0)),
        Continuity::Contiguous
    );
    assert_eq!(
        log.start("d", EventId::new(40_000, 0)),
        Continuity::Contiguous
    );
    assert_ne!(log.start("never", EventId::ZERO), Continuity::Contiguous);
}

#[test]
fn too_many_bytes_remove_the_oldest_events_of_all_channels() {
    let mut log = log();
    log.add("a", 2, 1000).unwrap();
    let each = log.bytes / 2;
    log.retention.bytes_max = each * 4;
    log.add("b", 2, 1001).unwrap();
    assert_eq!((log.count("a"), log.count("b")), (2, 2));
    log.add("b", 1, 1002).unwrap();
    assert_eq!((log.count("a"), log.count("b")), (1, 3));
    log.add("b", 2, 1003).unwrap();
    assert_eq!((log.count("a"), log.count("b")), (0, 4));
    assert_ne!(log.start("b", EventId::ZERO), Continuity::Contiguous);
}

#[test]
fn a_channel_with_keys_is_not_idle() {
    let mut log = log();
    log.retention.keys.window = Duration::from_secs(10);
    log.keyed("a", 1, "x", 1000).unwrap();
    log.add("b", 1, 1500).unwrap();
    log.add("c", 1, 5000).unwrap();
    assert_eq!((log.count("a"), log.count("b"), log.count("c")), (1, 0, 1));
    assert!(matches!(
        log.add("d", 1, 5001),
        Err(BrokerError::TooManyChannels(_))
    ));
    assert_eq!(log.keyed("a", 1, "x", 10_999).unwrap(), (1000, true));
    // Once the key has expired, the channel is idle.
    log.add("c", 1, 11_000).unwrap();
    log.add("d", 1, 11_001).unwrap();
    assert_eq!(log.count("d"), 1);
}

#[test]
fn a_new_key_is_rejected_until_the_oldest_has_expired() {
    let mut log = log();
    for (key, now_ms) in [(1, 1000), (2, 1010), (3, 1020)] {
        log.keyed("a", key, "x", now_ms).unwrap();
    }
    match log.keyed("a", 4, "x", 1030) {
        Err(BrokerError::TooManyKeys {
            keys_max: 3,
            expires_in,
        }) => {
            assert_eq!(expires_in, Duration::from_millis(70));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(log.keyed("a", 4, "x", 1100).unwrap(), (1100, false));
    // A key that comes again after its expiry is new, and expires later.
    assert_eq!(log.keyed("a", 2, "y", 1115).unwrap(), (1115, false));
    assert_eq!(log.keyed("a", 2, "y", 1214).unwrap(), (1115, true));
}

proptest! {
    /// Each publish has a key, data, and a delay after the previous publish.
    #[test]
    fn keys_behave_like_a_model(publishes in vec((1..7_u128, "[xy]", 0..60_u64), 1..60)) {
        let mut log = log();
        let mut known: HashMap<u128, (String, u64)> = HashMap::new();
        let mut now_ms = 1000;
        for (key, data, later_ms) in publishes {
            now_ms += later_ms;
            known.retain(|_, (_, since_ms)| *since_ms + 100 > now_ms);
            let outcome = log.keyed("a", key, &data, now_ms);
            match (known.get(&key), outcome) {
                (Some((same, since_ms)), Ok((ms, true))) => {
                    prop_assert_eq!((same, *since_ms), (&data, ms));
                }
                (Some((other, _)), Err(BrokerError::KeyReused { item: 0 })) => {
                    prop_assert_ne!(other, &data);
                }
                (None, Err(BrokerError::TooManyKeys { .. })) => prop_assert_eq!(known.len(), 3),
                (None, Ok((ms, false))) => {
                    prop_assert!(known.len() < 3 && ms == now_ms);
                    known.insert(key, (data, now_ms));
                }
                (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
            }
        }
    }
}
