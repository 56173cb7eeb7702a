//! Tests of idempotency keys on disk.

use std::{collections::HashMap, time::Duration};

use proptest::{collection::vec, prelude::*};
use redb::{ReadableTable as _, WriteTransaction};
use sse_proto::EventId;

use super::super::{
    recover::load_state,
    tables::KEYS,
    test_log::{TestLog, item},
};
use crate::broker::{BrokerError, idempotency::AppendItem};

#[test]
fn a_key_expires_by_the_clock_of_the_log() {
    let mut log = TestLog::new();
    assert_eq!(
        log.append_item("a", item(1, "x"), 1000).unwrap(),
        (1000, false)
    );
    assert_eq!(
        log.append_item("a", item(1, "x"), 1099).unwrap(),
        (1000, true)
    );
    assert!(matches!(
        log.append_item("a", item(1, "y"), 1099),
        Err(BrokerError::KeyReused { item: 0 })
    ));
    // The system's clock goes back; the log's clock does not.
    log.append("b", 1, 1050, 100).unwrap();
    assert_eq!(
        log.append_item("a", item(1, "x"), 10).unwrap(),
        (1000, true)
    );
    log.append("b", 1, 1100, 100).unwrap();
    assert_eq!(
        log.append_item("a", item(1, "y"), 10).unwrap(),
        (1100, false)
    );
    // A shorter window applies to new keys only.
    log.retention.keys.window = Duration::from_millis(1);
    assert_eq!(
        log.append_item("a", item(1, "y"), 1199).unwrap(),
        (1100, true)
    );
    assert_eq!(
        log.append_item("a", item(2, "y"), 1199).unwrap(),
        (1199, false)
    );
    assert_eq!(
        log.append_item("a", item(2, "y"), 1200).unwrap(),
        (1200, false)
    );
}

#[test]
fn keys_beyond_the_limit_are_rejected_until_the_oldest_expires() {
    let mut log = TestLog::new();
    for (key, now_ms) in [(1, 1000), (2, 1010), (3, 1020)] {
        log.append_item("a", item(key, "x"), now_ms).unwrap();
    }
    match log.append_item("a", item(4, "x"), 1030) {
        Err(BrokerError::TooManyKeys {
            keys_max: 3,
            expires_in,
        }) => {
            assert_eq!(expires_in, Duration::from_millis(70));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        log.append_item("a", item(3, "x"), 1099).unwrap(),
        (1020, true)
    );
    assert_eq!(
        log.append_item("a", item(4, "x"), 1100).unwrap(),
        (1100, false)
    );
    let two = [item(5, "x"), item(6, "x")];
    assert!(matches!(
        log.append_items("a", &two, 1110, 100),
        Err(BrokerError::TooManyKeys { .. })
    ));
    log.append_items("a", &two, 1120, 100).unwrap();
}

#[test]
fn a_commit_forgets_a_bounded_number_of_expired_keys() {
    let mut log = TestLog::new();
    log.retention.keys.keys_max = 5000;
    let all: Vec<AppendItem> = (1..=2500).map(|key| item(key, "x")).collect();
    log.append_items("a", &all, 1000, 100).unwrap();
    let count = |log: &TestLog| {
        log.state
            .channels
            .keys()
            .counts()
            .values()
            .map(|key_count| key_count.count)
            .sum::<u64>()
    };
    assert!(log.append("a", 0, 1100, 100).unwrap(), "more is left");
    assert_eq!(count(&log), 1500);
    // An expired key is unknown, forgotten or not. A key that replaces it is counted once.
    assert_eq!(
        log.append_item("a", item(2500, "y"), 1100).unwrap(),
        (1100, false)
    );
    while log.append("a", 0, 1150, 100).unwrap() {}
    assert_eq!(count(&log), 1);
    assert_eq!(
        log.append_item("a", item(2500, "y"), 1199).unwrap(),
        (1100, true)
    );
    while log.append("a", 0, 1200, 100).unwrap() {}
    assert!(log.state.channels.keys().counts().is_empty());
}

#[test]
fn a_damaged_row_fails_only_its_own_key_until_the_log_is_opened_again() {
    let mut log = TestLog::new();
    log.append_item("a", item(1, "x"), 1000).unwrap();
    log.append_item("a", item(2, "x"), 1000).unwrap();
    let change = |transaction: &WriteTransaction| {
        let mut keys = transaction.open_table(KEYS)?;
        let mut row = keys.get((1, 1))?.expect("it is there").value().to_vec();
        row[20] ^= 1;
        keys.insert((1, 1), row.as_slice())?;
        Ok(())
    };
    log.store.write(change).unwrap();
    log.is_damaged = true;
    assert!(matches!(
        log.append_item("a", item(1, "x"), 1001),
        Err(BrokerError::Damaged(_))
    ));
    assert_eq!(
        log.append_item("a", item(2, "x"), 1001).unwrap(),
        (1000, true)
    );
    assert_eq!(log.count("a"), 2);
    // Opening cannot tell which key the row belonged to, so it rejects the whole log.
    let rejected = load_state(&log.store, EventId::ZERO)
        .err()
        .map(|error| error.to_string());
    assert!(
        rejected
            .as_ref()
            .is_some_and(|why| why.contains("key of a publish")),
        "{rejected:?}"
    );
}

proptest! {
    /// Each publish has a key, data, and a delay after the previous publish.
    #[test]
    fn keys_behave_like_a_model(publishes in vec((1..7_u128, "[xy]", 0..60_u64), 1..40)) {
        let mut log = TestLog::new();
        let mut known: HashMap<u128, (String, u64)> = HashMap::new();
        let mut now_ms = 1000;
        for (key, data, later_ms) in publishes {
            now_ms += later_ms;
            known.retain(|_, (_, since_ms)| *since_ms + 100 > now_ms);
            let outcome = log.append_item("a", item(key, &data), now_ms);
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
