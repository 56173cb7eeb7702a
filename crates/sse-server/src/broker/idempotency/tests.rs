//! Tests of idempotent publishing.

use sse_proto::EventId;

use super::*;

const ME: KeyOwner = KeyOwner::UNKNOWN;

fn event(kind: &str, data: &str) -> Event {
    Event {
        kind: kind.parse().unwrap(),
        data: data.into(),
    }
}

#[test]
fn all_items_are_decided_before_any_is_stored() {
    let item = |key: u128, content: u128| AppendItem {
        events: vec![event("a", "b")],
        idempotency: (key > 0).then_some(IdempotencyKey {
            key: key.into(),
            content: content.into(),
        }),
    };
    let ids = Appended {
        first: EventId::new(1, 0),
        last: EventId::new(1, 0),
    };
    let decide = |items: &[AppendItem]| {
        let look_up = |key: Fingerprint| {
            Ok((key.number() == 1).then_some(KnownKey {
                ids,
                content: 10.into(),
                owner: ME,
            }))
        };
        dispositions(items, ME, look_up).map_err(|error| match error {
            BrokerError::KeyReused { item } => item,
            error => panic!("{error}"),
        })
    };
    let good = [
        item(1, 10),
        item(2, 20),
        item(0, 0),
        item(2, 20),
        item(1, 10),
    ];
    assert_eq!(
        decide(&good),
        Ok(vec![
            Disposition::Duplicate(ids),
            Disposition::New(good[1].idempotency),
            Disposition::New(None),
            Disposition::SameAs(1),
            Disposition::Duplicate(ids)
        ])
    );
    assert_eq!(decide(&[item(2, 20), item(1, 11)]), Err(1));
    assert_eq!(decide(&[item(2, 20), item(0, 0), item(2, 21)]), Err(2));
}
#[test]
fn an_item_that_equals_an_earlier_one_gets_its_ids() {
    let item = AppendItem {
        events: vec![event("a", "b"); 2],
        idempotency: None,
    };
    let ids = |ms| Appended {
        first: EventId::new(ms, 0),
        last: EventId::new(ms, 1),
    };
    let items = vec![item; 3];
    let decided = [
        Disposition::Duplicate(ids(1)),
        Disposition::New(None),
        Disposition::SameAs(1),
    ];
    let store = |_: &AppendItem, _| Ok::<_, BrokerError>(ids(2));
    let outcomes = store_new_items(&items, &decided, store).unwrap();
    let found: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.ids, outcome.duplicate))
        .collect();
    assert_eq!(found, [(ids(1), true), (ids(2), false), (ids(2), true)]);
    assert_eq!(count_added(&items, &outcomes), 2);
    assert_eq!(known_outcomes(&decided), None);
    assert!(known_outcomes(&decided[..1]).is_some());
}

#[test]
fn a_key_that_another_client_used_for_something_else_does_not_block_its_publisher() {
    let (me, other) = (KeyOwner::from(1), KeyOwner::from(2));
    let ids = Appended {
        first: EventId::new(1, 0),
        last: EventId::new(1, 0),
    };
    let mut log: HashMap<Fingerprint, KnownKey> = HashMap::new();
    let mut publish = |owner: KeyOwner, content: u128| {
        let item = AppendItem {
            events: vec![event("a", "b")],
            idempotency: Some(IdempotencyKey {
                key: 7.into(),
                content: content.into(),
            }),
        };
        let look_up = |key: Fingerprint| Ok::<_, BrokerError>(log.get(&key).copied());
        let decided = dispositions(&[item], owner, look_up).map(|decided| decided[0]);
        if let Ok(Disposition::New(Some(key))) = decided {
            log.insert(key.key, key.stored_with(ids, owner));
        }
        match decided {
            Ok(Disposition::New(_)) => "new",
            Ok(_) => "duplicate",
            Err(BrokerError::KeyReused { .. }) => "reused",
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(publish(other, 1), "new");
    assert_eq!(publish(other, 2), "reused");
    assert_eq!(
        publish(me, 1),
        "duplicate",
        "sent again from another address"
    );
    assert_eq!(publish(me, 3), "new");
    assert_eq!(publish(me, 3), "duplicate");
    assert_eq!(publish(me, 4), "reused");
    assert_eq!(publish(other, 1), "duplicate");
    assert_eq!(publish(KeyOwner::UNKNOWN, 3), "reused");
}
