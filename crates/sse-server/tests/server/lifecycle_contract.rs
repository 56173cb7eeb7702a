//! Tests the contract of `broker/lifecycle` without HTTP: conditions, the end, deletion, settings
//! and expiry.
//!
//! Every case runs on each of [`BROKERS`].

use std::{collections::HashSet, time::Duration};

use sse_proto::{EventId, Position, api::GapReason};
use sse_server::broker::{
    Broker, BrokerError, Continuity, PageLimits, Publisher, ReadFrom,
    embedded::{DataMode, Location},
    lifecycle::{
        AfterDelete, ChannelClass, ChannelSettings, ChannelState, Condition, CreateRule, ListQuery,
        Tombstone, Write, Written,
    },
};

use crate::{
    broker_contract::{
        ALL, after, append, channel, data, embedded, own, part, read, retention, settled,
    },
    common::{Backend, until},
};

/// The brokers that implement the contract.
const BROKERS: [Backend; 3] = [Backend::Memory, Backend::Embedded, Backend::Redis];

async fn write(broker: &Broker, name: &str, write: Write) -> Result<Written, BrokerError> {
    let publisher = Publisher::default();
    broker.write(publisher, &channel(name), write).await
}

/// A write of one event, with a key unless `key` is 0.
fn event(key: u128, number: u128) -> Write {
    Write::of_items(vec![part(key, number)])
}

fn closing(write: Write, reason: &str) -> Write {
    Write {
        close: Some(reason.parse().unwrap()),
        ..write
    }
}

fn only_if(write: Write, condition: Condition) -> Write {
    Write {
        condition: Some(condition),
        ..write
    }
}

async fn close(broker: &Broker, name: &str, reason: &str) -> Result<Written, BrokerError> {
    self::write(broker, name, closing(Write::default(), reason)).await
}

/// Counts the events of all pages.
async fn count_events(broker: &Broker, name: &str) -> usize {
    let (mut count, mut from) = (0, ReadFrom::Oldest);
    loop {
        let page = read(broker, name, from).await;
        count += page.events.len();
        if !page.more {
            return count;
        }
        from = ReadFrom::Position(page.end(from));
    }
}

async fn delete(broker: &Broker, name: &str) -> Tombstone {
    let tombstone = broker.delete(&channel(name)).await.unwrap();
    tombstone.unwrap()
}

async fn is_ended(broker: &Broker, name: &str, id: EventId) -> bool {
    let position = Position::After(id);
    broker.is_ended(&channel(name), position).await.unwrap()
}

const fn at(id: EventId) -> ReadFrom {
    ReadFrom::Position(Position::At(id))
}

fn is_closed(result: &Result<Written, BrokerError>) -> bool {
    matches!(result, Err(BrokerError::ChannelClosed { .. }))
}

#[tokio::test]
async fn an_end_is_stored_with_the_last_event_and_is_the_last_record() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let first = append(broker, "a", 0..3).await;
        let written = write(broker, "a", closing(event(0, 3), "completed"))
            .await
            .unwrap();
        let (last, end) = (written.outcomes[0].ids.last, written.end.unwrap());
        assert!(first < last && last < end && written.newest == end);
        let page = read(broker, "a", ReadFrom::Oldest).await;
        assert_eq!(
            (page.start, page.more, page.last),
            (Continuity::Contiguous, false, end)
        );
        let record = page.events.last().unwrap();
        assert!(record.is_end() && record.id == end && page.events.len() == 5);
        let expected = format!(r#"{{"channel":"a","reason":"completed","last":"{last}"}}"#);
        assert_eq!(&*record.data, expected);
        // Every position before the end gets it, whatever the limits of the page.
        let tiny = PageLimits {
            events_max: 1,
            bytes_max: 1,
        };
        for from in [after(last), at(end), ReadFrom::Time(end.ms + 1_000_000)] {
            let page = broker.read(&channel("a"), from, tiny).await.unwrap();
            assert!(
                page.start == Continuity::Contiguous && page.events == [record.clone()],
                "{from:?}"
            );
        }
        let page = broker
            .read(&channel("a"), after(first), tiny)
            .await
            .unwrap();
        assert_eq!((page.events.len(), page.more), (2, false));
        let page = read(broker, "a", after(end)).await;
        assert_eq!(
            (page.start, page.events.len(), page.last),
            (Continuity::Contiguous, 0, end)
        );
        // Now and the last events are before the end.
        assert_eq!(broker.last_id(&channel("a")).await.unwrap(), last);
        let back = broker.read_back(&channel("a"), None, ALL).await.unwrap();
        assert_eq!(
            (back.events.len(), back.events[0].id, back.last),
            (4, last, last)
        );
        let bound = EventId::new(end.ms, u64::MAX);
        assert_eq!(settled(broker, "a", bound).await, end);
        let ended = [
            is_ended(broker, "a", last).await,
            is_ended(broker, "a", end).await,
        ];
        assert_eq!(ended, [false, true]);
        assert!(!is_ended(broker, "b", end).await);
    }
}

#[tokio::test]
async fn a_closed_channel_accepts_only_repetitions() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let keyed = write(broker, "a", event(1, 1)).await.unwrap();
        let closed = write(broker, "a", closing(event(2, 2), "completed"))
            .await
            .unwrap();
        assert!(is_closed(&write(broker, "a", event(0, 3)).await));
        assert!(is_closed(&write(broker, "a", event(3, 3)).await));
        let repeated = write(broker, "a", event(1, 1)).await.unwrap();
        assert!(repeated.outcomes[0].duplicate && repeated.newest == keyed.newest);
        let repeated = write(broker, "a", closing(event(2, 2), "completed"))
            .await
            .unwrap();
        assert_eq!((repeated.newest, repeated.end), (closed.newest, closed.end));
        assert_eq!(
            close(broker, "a", "completed").await.unwrap().end,
            closed.end
        );
        assert!(is_closed(&close(broker, "a", "failed").await));
        // Lines that are known do not keep a batch from closing.
        write(broker, "b", event(1, 1)).await.unwrap();
        let closed = write(broker, "b", closing(event(1, 1), "done"))
            .await
            .unwrap();
        assert!(closed.outcomes[0].duplicate && closed.end == Some(closed.newest));
        assert_eq!(data(&read(broker, "b", ReadFrom::Oldest).await).len(), 2);
        // A channel without an event can be closed as well.
        let empty = close(broker, "c", "cancelled").await.unwrap();
        let page = read(broker, "c", ReadFrom::Oldest).await;
        assert_eq!(
            data(&page),
            [r#"{"channel":"c","reason":"cancelled","last":null}"#]
        );
        assert_eq!(page.events[0].id, empty.end.unwrap());
    }
}

#[tokio::test]
async fn of_two_conditional_writers_one_succeeds() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let none = |number| only_if(event(0, number), Condition::NoEvent);
        let (one, two) = tokio::join!(write(broker, "a", none(1)), write(broker, "a", none(2)));
        let (first, failed) = match (one, two) {
            (Ok(first), Err(failed)) | (Err(failed), Ok(first)) => (first.newest, failed),
            both => panic!("{both:?}"),
        };
        assert!(matches!(failed, BrokerError::ConditionFailed { newest } if newest == first));
        let mut newest = first;
        for round in 0..20 {
            let next = |number| only_if(event(0, number), Condition::Newest(newest));
            let (one, two) = tokio::join!(write(broker, "a", next(1)), write(broker, "a", next(2)));
            assert!(one.is_ok() != two.is_ok(), "{round}: {one:?} {two:?}");
            newest = one.or(two).unwrap().newest;
        }
        assert_eq!(count_events(broker, "a").await, 21);
        let stale = only_if(closing(Write::default(), "done"), Condition::Newest(first));
        let refused = write(broker, "a", stale).await;
        assert!(
            matches!(refused, Err(BrokerError::ConditionFailed { .. })),
            "{refused:?}"
        );
        let right = only_if(closing(Write::default(), "done"), Condition::Newest(newest));
        assert!(write(broker, "a", right).await.is_ok());
        let missing = only_if(event(0, 1), Condition::Newest(newest));
        assert!(write(broker, "missing", missing).await.is_err());
        assert!(
            broker
                .describe(&channel("missing"))
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn a_deleted_channel_ends_and_its_name_begins_above_it() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        assert!(broker.delete(&channel("never")).await.unwrap().is_none());
        let first = append(broker, "a", 0..1).await;
        let last = append(broker, "a", 1..3).await;
        write(broker, "a", event(7, 7)).await.unwrap();
        let tombstone = delete(broker, "a").await;
        assert_eq!(delete(broker, "a").await, tombstone);
        assert!(
            tombstone.last < tombstone.end && tombstone.end < tombstone.at && last < tombstone.last
        );
        assert!(broker.describe(&channel("a")).await.unwrap().is_none());
        let page = read(broker, "a", after(first)).await;
        let gap = Continuity::Gap {
            reason: GapReason::Deleted,
            oldest: Some(tombstone.end),
            lost: None,
        };
        assert_eq!((page.start, page.events.len()), (gap, 1));
        let expected = format!(
            r#"{{"channel":"a","reason":"deleted","last":"{}"}}"#,
            tombstone.last
        );
        assert!(page.events[0].is_end() && *page.events[0].data == expected);
        let page = read(broker, "a", after(tombstone.last)).await;
        assert_eq!((page.start, page.events.len()), (Continuity::Contiguous, 1));
        assert!(is_ended(broker, "a", tombstone.end).await);
        assert!(
            read(broker, "a", after(tombstone.end))
                .await
                .events
                .is_empty()
        );
        // A subscriber without a cursor waits for the next incarnation.
        let now = broker.last_id(&channel("a")).await.unwrap();
        assert!(now == tombstone.at && !is_ended(broker, "a", now).await);
        assert!(read(broker, "a", ReadFrom::Oldest).await.events.is_empty());
        // The key was forgotten with the channel.
        let again = write(broker, "a", event(7, 7)).await.unwrap();
        assert!(!again.outcomes[0].duplicate && again.newest > tombstone.at);
        let page = read(broker, "a", after(now)).await;
        assert_eq!(
            (page.start, data(&page)),
            (Continuity::Contiguous, vec!["7"])
        );
        for old in [first, last, tombstone.last] {
            let page = read(broker, "a", after(old)).await;
            let gap = Continuity::Gap {
                reason: GapReason::Deleted,
                oldest: Some(again.newest),
                lost: None,
            };
            assert_eq!((page.start, data(&page)), (gap, vec!["7"]));
        }
        assert!(is_ended(broker, "a", tombstone.end).await);
        assert!(!is_ended(broker, "a", again.newest).await);
    }
}

#[tokio::test]
async fn deleting_a_closed_channel_keeps_the_id_of_its_end() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let written = write(broker, "a", closing(event(0, 1), "completed"))
            .await
            .unwrap();
        let tombstone = delete(broker, "a").await;
        assert_eq!(
            (Some(tombstone.end), tombstone.last),
            (written.end, written.outcomes[0].ids.last)
        );
        assert!(is_ended(broker, "a", tombstone.end).await);
    }
}

#[tokio::test]
async fn a_name_that_was_deleted_often_never_proves_an_old_id() {
    for backend in BROKERS {
        let rounds = if backend == Backend::Memory {
            1000
        } else {
            200
        };
        let own = own(backend, |retention| retention.channels_max = 50).await;
        let broker = &own.broker;
        let mut old = Vec::new();
        for _ in 0..rounds {
            old.push(append(broker, "a", 0..1).await);
            delete(broker, "a").await;
        }
        append(broker, "a", 0..1).await;
        for id in &old {
            let start = read(broker, "a", after(*id)).await.start;
            assert_ne!(start, Continuity::Contiguous, "{id}");
        }
        let unique: HashSet<_> = old.iter().collect();
        assert_eq!(unique.len(), rounds);
    }
}

#[tokio::test]
async fn a_write_of_an_incarnation_creates_no_channel() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let incarnation = write(broker, "a", event(0, 1)).await.unwrap().incarnation;
        let of = |number| Write {
            incarnation: Some(incarnation),
            ..event(0, number)
        };
        assert_eq!(
            write(broker, "a", of(2)).await.unwrap().incarnation,
            incarnation
        );
        broker.keep_alive(&channel("a"), incarnation).await.unwrap();
        delete(broker, "a").await;
        for _ in 0..2 {
            let refused = write(broker, "a", of(3)).await;
            assert!(
                matches!(refused, Err(BrokerError::ChannelDeleted)),
                "{refused:?}"
            );
            let refused = broker.keep_alive(&channel("a"), incarnation).await;
            assert!(
                matches!(refused, Err(BrokerError::ChannelDeleted)),
                "{refused:?}"
            );
            append(broker, "a", 0..1).await;
        }
    }
}

#[tokio::test]
async fn a_channel_keeps_what_it_sets_for_itself() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let settings = ChannelSettings {
            history_events: Some(2),
            ..ChannelSettings::NONE
        };
        let set = async |settings| {
            broker
                .configure(Publisher::default(), &channel("a"), settings)
                .await
        };
        let configured = set(settings).await.unwrap();
        assert!(configured.created && configured.description.settings == settings);
        assert!(!set(settings).await.unwrap().created);
        append(broker, "a", 0..5).await;
        assert_eq!(data(&read(broker, "a", ReadFrom::Oldest).await), ["3", "4"]);
        append(broker, "b", 0..5).await;
        assert_eq!(read(broker, "b", ReadFrom::Oldest).await.events.len(), 5);
        let bytes = ChannelSettings {
            history_bytes: broker.counts_bytes().then_some(1),
            history_events: (!broker.counts_bytes()).then_some(1),
            ..ChannelSettings::NONE
        };
        set(bytes).await.unwrap();
        append(broker, "a", 5..7).await;
        assert_eq!(data(&read(broker, "a", ReadFrom::Oldest).await), ["6"]);
        close(broker, "a", "done").await.unwrap();
        let refused = set(settings).await;
        assert!(
            matches!(refused, Err(BrokerError::ChannelClosed { .. })),
            "{refused:?}"
        );
        let later = ChannelSettings {
            ttl_closed_ms: Some(3_600_000),
            ..bytes
        };
        let description = set(later).await.unwrap().description;
        assert!(
            matches!(description.state, ChannelState::Closed { .. })
                && description.expires_ms.is_some()
        );
        // Only the write that creates a channel sets it up.
        let write = Write {
            settings,
            ..event(0, 1)
        };
        self::write(broker, "b", write.clone()).await.unwrap();
        self::write(broker, "c", write).await.unwrap();
        let described = async |name| {
            broker
                .describe(&channel(name))
                .await
                .unwrap()
                .unwrap()
                .settings
        };
        assert_eq!(
            (described("b").await, described("c").await),
            (ChannelSettings::NONE, settings)
        );
    }
}

#[tokio::test]
async fn an_open_channel_is_trimmed_by_time_and_a_closed_one_is_deleted() {
    for backend in BROKERS {
        let own = own(backend, |retention| {
            retention.keys.window = Duration::from_millis(1500);
        })
        .await;
        let broker = &own.broker;
        let short = ChannelSettings {
            ttl_ms: Some(300),
            ttl_closed_ms: Some(300),
            ..ChannelSettings::NONE
        };
        let settings = |write| Write {
            settings: short,
            ..write
        };
        let open = write(broker, "open", settings(event(0, 1))).await.unwrap();
        write(broker, "closed", settings(closing(event(0, 1), "done")))
            .await
            .unwrap();
        write(broker, "keyed", settings(event(1, 1))).await.unwrap();
        let count = async |name| read(broker, name, ReadFrom::Oldest).await.events.len();
        until("the open channel is trimmed", async || {
            (count("open").await == 0).then_some(())
        })
        .await;
        until("the closed channel is deleted", async || {
            broker
                .describe(&channel("closed"))
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
        // It continues from its last id, and is open.
        let description = broker.describe(&channel("open")).await.unwrap().unwrap();
        assert_eq!(
            (description.newest, description.state),
            (open.newest, ChannelState::Open)
        );
        append(broker, "open", 2..3).await;
        let page = read(broker, "open", after(open.newest)).await;
        assert_eq!(
            (page.start, data(&page)),
            (Continuity::Contiguous, vec!["2"])
        );
        let repeated = write(broker, "keyed", event(1, 1)).await.unwrap();
        assert!(repeated.outcomes[0].duplicate || backend == Backend::Embedded);
        until("the last key has expired", async || {
            (count("keyed").await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_class_decides_about_new_and_deleted_channels_and_their_time() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        append(broker, "run.1", 0..1).await;
        broker.classes().replace(vec![
            ChannelClass {
                create: CreateRule::Explicit,
                ..ChannelClass::new("job.*".parse().unwrap())
            },
            ChannelClass {
                after_delete: AfterDelete::Refuse,
                defaults: ChannelSettings {
                    ttl_ms: Some(200),
                    ..ChannelSettings::NONE
                },
                ..ChannelClass::new("run.*".parse().unwrap())
            },
        ]);
        let refused = write(broker, "job.1", event(0, 1)).await;
        assert!(
            matches!(refused, Err(BrokerError::NoSuchChannel)),
            "{refused:?}"
        );
        let created = broker
            .configure(
                Publisher::default(),
                &channel("job.1"),
                ChannelSettings::NONE,
            )
            .await;
        assert!(created.unwrap().created);
        write(broker, "job.1", event(0, 1)).await.unwrap();
        // A class that was loaded later applies to channels that exist.
        until("the class trims the channel", async || {
            read(broker, "run.1", ReadFrom::Oldest)
                .await
                .events
                .is_empty()
                .then_some(())
        })
        .await;
        delete(broker, "run.1").await;
        let refused = write(broker, "run.1", event(0, 1)).await;
        assert!(
            matches!(refused, Err(BrokerError::DeletedRecently)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_list_has_each_channel_once_in_the_order_of_bytes() {
    for backend in BROKERS {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        for name in ["b", "a.2", "a.10", "a", "A", "a~", "c.1"] {
            append(broker, name, 0..1).await;
        }
        close(broker, "a.2", "done").await.unwrap();
        delete(broker, "c.1").await;
        let list = async |prefix: &str, limit| {
            let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let query = ListQuery {
                    prefix: prefix.to_owned(),
                    after,
                    limit,
                };
                let page = broker.list(&query).await.unwrap();
                names.extend(
                    page.channels
                        .iter()
                        .map(|channel| channel.channel.to_string()),
                );
                pages += 1;
                after = page.next;
                if after.is_none() {
                    return (names.join(" "), pages);
                }
            }
        };
        assert_eq!(list("", 100).await, ("A a a.10 a.2 a~ b".to_owned(), 1));
        assert_eq!(list("", 2).await, ("A a a.10 a.2 a~ b".to_owned(), 3));
        assert_eq!(list("a.", 1).await, ("a.10 a.2".to_owned(), 2));
        assert_eq!(list("x", 5).await.0, "");
        assert_eq!(list("a b", 5).await.0, "");
    }
}

#[tokio::test]
async fn ends_tombstones_and_settings_survive_a_restart() {
    let own = own(Backend::Embedded, |_| {}).await;
    let settings = ChannelSettings {
        history_events: Some(7),
        ttl_ms: Some(9_000_000),
        ..ChannelSettings::NONE
    };
    let written = write(
        &own.broker,
        "a",
        Write {
            settings,
            ..closing(event(0, 1), "completed")
        },
    );
    let end = written.await.unwrap().end.unwrap();
    let old = append(&own.broker, "b", 0..3).await;
    let tombstone = delete(&own.broker, "b").await;
    let before = own.broker.describe(&channel("a")).await.unwrap();
    let Broker::Embedded(log) = &own.broker else {
        panic!("another broker")
    };
    log.close();
    let location = Location::Directory(own.directory.path().join("log"), DataMode::PRIVATE);
    let broker = embedded(location, retention());
    assert_eq!(broker.describe(&channel("a")).await.unwrap(), before);
    assert!(is_ended(&broker, "a", end).await && is_ended(&broker, "b", tombstone.end).await);
    assert!(is_closed(&write(&broker, "a", event(0, 2)).await));
    assert_eq!(delete(&broker, "b").await, tombstone);
    let page = read(&broker, "b", after(EventId::new(old.ms, 0).before())).await;
    assert!(
        matches!(
            page.start,
            Continuity::Gap {
                reason: GapReason::Deleted,
                ..
            }
        ),
        "{page:?}"
    );
    assert!(append(&broker, "b", 0..1).await > tombstone.at);
}

/// A deletion of the embedded log waits for the disk, so there it is fewer.
#[tokio::test]
async fn a_name_that_was_deleted_many_times_never_proves_an_old_id() {
    for (backend, deletions) in BROKERS.into_iter().zip([1000, 50, 1000]) {
        let own = own(backend, |_| {}).await;
        let broker = &own.broker;
        let mut old = Vec::new();
        for _ in 0..deletions {
            let last = append(broker, "a", 0..1).await;
            let tombstone = delete(broker, "a").await;
            assert!(old.last().is_none_or(|(_, at)| *at < last));
            old.push((last, tombstone.at));
        }
        let last = append(broker, "a", 0..1).await;
        for (event, deletion) in old.iter().step_by(7) {
            for id in [*event, *deletion] {
                let page = read(broker, "a", after(id)).await;
                let is_proved = page.start == Continuity::Contiguous;
                // Nothing lies between the newest deletion and the new events.
                let is_newest = Some(id) == old.last().map(|(_, at)| *at);
                assert!(is_newest || !is_proved, "{backend:?}: {id}");
                assert_eq!(page.events.last().map(|event| event.id), Some(last));
                let page = read(broker, "a", at(id)).await;
                assert_ne!(page.start, Continuity::Contiguous, "{backend:?}: @{id}");
            }
        }
    }
}
