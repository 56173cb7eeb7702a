//! Tests the contract of `broker/mod.rs` on every broker, without HTTP.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{
    collection::vec,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use sse_proto::{Channel, Event, EventId, Position, api::GapReason};
use sse_server::{
    broker::{
        Broker, BrokerError, CommittedGroup, Continuity, Page, PageLimits, Publisher, ReadFrom,
        Retention, Settled,
        embedded::{DataMode, Embedded, Location},
        idempotency::{AppendItem, AppendOutcome, Fingerprint, IdempotencyKey, KeyLimits},
        memory::Memory,
        notify::Watcher,
        redis::{RedisBroker, RedisLogin, RedisOptions},
    },
    metrics::Metrics,
};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use crate::common::{Backend, RedisServer, until, within};

pub(crate) const ALL: PageLimits = PageLimits {
    events_max: 100_000,
    bytes_max: usize::MAX,
};

/// A follower that notifies a waiting test.
#[derive(Debug, Default)]
struct Bell(Notify);

impl Watcher for Bell {
    fn changed(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// A follower that holds the groups that were handed over to it: the last id before each, and its ids.
#[derive(Debug, Default)]
struct Groups(Mutex<Vec<(EventId, Vec<EventId>)>>);

impl Watcher for Groups {
    fn changed(self: Arc<Self>) {}

    fn committed(self: Arc<Self>, group: &CommittedGroup<'_>) {
        let events = group.events().unwrap();
        let ids = events.iter().map(|event| event.id).collect();
        self.0.lock().unwrap().push((group.previous, ids));
    }
}

/// A broker that the test owns, and the resources that it needs.
pub(crate) struct Own {
    pub(crate) broker: Broker,
    _redis: Option<RedisServer>,
    pub(crate) directory: TempDir,
}

pub(crate) fn retention() -> Retention {
    Retention {
        events_max: NonZeroUsize::new(1_000_000).unwrap(),
        age_max: Duration::from_hours(1),
        bytes_max: 1 << 30,
        channels_max: 1000,
        keys: KeyLimits {
            window: Duration::from_mins(10),
            keys_max: 1000,
            bytes_max: u64::MAX,
        },
    }
}

pub(crate) async fn own(backend: Backend, change: impl FnOnce(&mut Retention)) -> Own {
    let mut retention = retention();
    change(&mut retention);
    let directory = TempDir::new().unwrap();
    let redis = if backend == Backend::Redis {
        Some(RedisServer::start().await)
    } else {
        None
    };
    let broker = match (&redis, backend) {
        (Some(redis), _) => {
            let url = redis.url();
            let place = RedisOptions {
                url: &url,
                login: &RedisLogin::default(),
                prefix: "sse:",
                timeout: Duration::from_secs(10),
                replicas_to_wait_for: 0,
                followed_max: 1000,
                upgrades: false,
                flask_sse: &[],
                event_bytes_max: 1 << 20,
            };
            let broker =
                RedisBroker::connect(place, retention, Metrics::new(), &Handle::current()).await;
            Broker::Redis(broker.unwrap())
        }
        (None, Backend::Memory) => {
            Broker::Memory(Memory::new(retention, Metrics::new(), &Handle::current()))
        }
        (None, _) => embedded(
            Location::Directory(directory.path().join("log"), DataMode::PRIVATE),
            retention,
        ),
    };
    Own {
        broker,
        _redis: redis,
        directory,
    }
}

pub(crate) fn embedded(location: Location, retention: Retention) -> Broker {
    let (gave_up, _) = oneshot::channel();
    Broker::Embedded(
        Embedded::open(
            location,
            retention,
            0,
            Metrics::new(),
            Handle::current(),
            gave_up,
        )
        .unwrap(),
    )
}

pub(crate) fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<Event> {
    range
        .map(|number| Event {
            kind: "number".parse().unwrap(),
            data: number.to_string().into(),
        })
        .collect()
}

/// An event with this data and key; key 0 means no key.
pub(crate) fn part(key: u128, data: u128) -> AppendItem {
    let events = vec![Event {
        kind: "number".parse().unwrap(),
        data: data.to_string().into(),
    }];
    let idempotency = IdempotencyKey {
        key: Fingerprint::from(key),
        content: Fingerprint::of_events(&events),
    };
    AppendItem {
        events,
        idempotency: (key > 0).then_some(idempotency),
    }
}

pub(crate) async fn append(broker: &Broker, name: &str, range: std::ops::Range<usize>) -> EventId {
    broker
        .append(Publisher::default(), &channel(name), numbers(range))
        .await
        .unwrap()
        .last
}

pub(crate) async fn read(broker: &Broker, name: &str, from: ReadFrom) -> Page {
    broker.read(&channel(name), from, ALL).await.unwrap()
}

/// All events from the oldest on, read in as many pages as necessary.
async fn all(broker: &Broker, name: &str) -> Vec<(EventId, String)> {
    let mut from = ReadFrom::Oldest;
    let mut events = Vec::new();
    loop {
        let page = read(broker, name, from).await;
        assert_eq!(page.start, Continuity::Contiguous);
        let end = page.end(from);
        events.extend(
            page.events
                .into_iter()
                .map(|event| (event.id, event.data.to_string())),
        );
        if !page.more {
            return events;
        }
        from = ReadFrom::Position(end);
    }
}

/// Waits until no further event up to `bound` can appear; returns the last id at that time.
pub(crate) async fn settled(broker: &Broker, name: &str, bound: EventId) -> EventId {
    let settled = async || match broker.check_settled(&channel(name), bound).await.unwrap() {
        Settled::Through(last) => Some(last),
        Settled::NotFor(_) => None,
    };
    until("the bound is settled", settled).await
}

pub(crate) fn data(page: &Page) -> Vec<&str> {
    page.events.iter().map(|event| &*event.data).collect()
}

pub(crate) const fn after(id: EventId) -> ReadFrom {
    ReadFrom::Position(Position::After(id))
}

crate::on_every_broker! {
    async fn appended_events_are_read_back_in_order_with_increasing_ids(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let strange = ["", " ", "a\nb\r\nc\rd", "é€😀\u{0}\u{2028}", "{\"json\":1}"];
        let events = strange.map(|text| Event { kind: "é a".parse().unwrap(), data: text.into() });
        let appended = own.broker.append(Publisher::default(), &channel("a"), events.to_vec()).await.unwrap();
        append(&own.broker, "b", 0..1).await;
        let page = read(&own.broker, "a", ReadFrom::Oldest).await;
        assert_eq!(data(&page), strange);
        assert!(page.events.iter().all(|event| &*event.kind == "é a"));
        assert!(page.events.is_sorted_by(|one, next| one.id < next.id));
        assert_eq!((page.events[0].id, page.events[4].id), (appended.first, appended.last));
        assert_eq!((page.last, page.more), (appended.last, false));
        assert_eq!(own.broker.last_id(&channel("a")).await.unwrap(), appended.last);
    }

    async fn concurrent_publishers_lose_and_duplicate_no_event(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let publishers = (0..20).map(|publisher| {
            let broker = own.broker.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for round in 0..20 {
                    let number = publisher * 20 + round;
                    ids.push((append(&broker, "a", number..number + 1).await, number.to_string()));
                }
                ids
            })
        });
        let mut acknowledged = Vec::new();
        for publisher in publishers {
            acknowledged.extend(publisher.await.unwrap());
        }
        acknowledged.sort_unstable();
        assert_eq!(all(&own.broker, "a").await, acknowledged);
    }

    async fn appends_with_keys_behave_like_a_model(backend: Backend) {
        const KEYS_MAX: usize = 5;
        let own = own(backend, |retention| retention.keys.keys_max = KEYS_MAX).await;
        // Key (0 means no key) and data per part.
        let appends = vec(vec((0..8_u128, 0..2_u128), 1..5), 150);
        let appends = appends.new_tree(&mut TestRunner::deterministic()).unwrap().current();
        let mut known: HashMap<u128, (u128, EventId)> = HashMap::new();
        let mut log = Vec::new();
        let (mut conflicts, mut refused, mut repeated) = (0, 0, 0);
        for parts in appends {
            let mut new = known.clone();
            let conflict = parts.iter().position(|(key, data)| {
                *key > 0 && new.entry(*key).or_insert((*data, EventId::ZERO)).0 != *data
            });
            let asked = parts.iter().map(|(key, data)| part(*key, *data)).collect();
            match own.broker.append_idempotent(Publisher::default(), &channel("a"), asked).await {
                Err(BrokerError::KeyReused { item: part }) => {
                    assert_eq!(conflict, Some(part), "{parts:?}");
                    conflicts += 1;
                }
                Err(BrokerError::TooManyKeys { keys_max, .. }) => {
                    assert!(conflict.is_none() && keys_max == KEYS_MAX && new.len() > KEYS_MAX, "{parts:?}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
                Ok(placed) => {
                    assert!(conflict.is_none() && new.len() <= KEYS_MAX && placed.len() == parts.len(), "{parts:?}");
                    for ((key, data), AppendOutcome { ids, duplicate: again }) in parts.into_iter().zip(placed) {
                        assert_eq!(ids.first, ids.last);
                        if let Some((_, id)) = known.get(&key) {
                            assert_eq!((*id, again), (ids.first, true));
                        } else {
                            assert!(!again, "{key}");
                            log.push((ids.first, data.to_string()));
                            if key > 0 {
                                known.insert(key, (data, ids.first));
                            }
                        }
                        repeated += usize::from(again);
                    }
                }
            }
        }
        assert_eq!(all(&own.broker, "a").await, log);
        assert!(conflicts > 5 && refused > 5 && repeated > 5, "{conflicts} {refused} {repeated}");
    }

    async fn pages_are_limited_by_count_and_bytes_and_report_more(backend: Backend) {
        let own = own(backend, |_| {}).await;
        append(&own.broker, "a", 0..30).await;
        let by_count = PageLimits { events_max: 7, ..ALL };
        let page = own.broker.read(&channel("a"), ReadFrom::Oldest, by_count).await.unwrap();
        assert_eq!((data(&page), page.more), (vec!["0", "1", "2", "3", "4", "5", "6"], true));
        let by_bytes = PageLimits { bytes_max: 21, ..ALL };
        let page = own.broker.read(&channel("a"), page_end(&page), by_bytes).await.unwrap();
        assert_eq!((data(&page), page.more), (vec!["7", "8", "9"], true));
        let tiny = PageLimits { bytes_max: 1, ..ALL };
        let page = own.broker.read(&channel("a"), page_end(&page), tiny).await.unwrap();
        assert_eq!((data(&page), page.more), (vec!["10"], true));
        let page = own.broker.read(&channel("a"), ReadFrom::Oldest, PageLimits { events_max: 30, ..ALL }).await.unwrap();
        assert_eq!((page.events.len(), page.more), (30, false));
    }

    async fn reading_can_continue_after_every_event(backend: Backend) {
        let own = own(backend, |_| {}).await;
        append(&own.broker, "a", 0..40).await;
        let events = all(&own.broker, "a").await;
        for (nth, (id, _)) in events.iter().enumerate() {
            let page = read(&own.broker, "a", after(*id)).await;
            assert_eq!((page.start, page.events.len()), (Continuity::Contiguous, 39 - nth));
            let page = read(&own.broker, "a", ReadFrom::Position(Position::At(*id))).await;
            assert_eq!((page.start, page.events.len()), (Continuity::Contiguous, 40 - nth));
        }
    }

    async fn a_channel_that_never_had_an_event_can_be_continued(backend: Backend) {
        let own = own(backend, |_| {}).await;
        append(&own.broker, "other", 0..3).await;
        let head = own.broker.last_id(&channel("a")).await.unwrap();
        let page = read(&own.broker, "a", after(head)).await;
        assert_eq!((page.start, page.events.len(), page.last), (Continuity::Contiguous, 0, head));
        append(&own.broker, "a", 0..3).await;
        assert_eq!(data(&read(&own.broker, "a", after(head)).await), ["0", "1", "2"]);
        assert_eq!(own.broker.last_id(&channel("empty")).await.unwrap(), head);
    }

    async fn an_id_that_was_never_in_the_log_is_a_gap(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let foreign = EventId::new(5, 5);
        let page = read(&own.broker, "a", after(foreign)).await;
        assert_eq!(page.start, Continuity::Gap { reason: GapReason::Unknown, oldest: None, lost: None });
        append(&own.broker, "a", 0..3).await;
        let events = all(&own.broker, "a").await;
        let page = read(&own.broker, "a", after(foreign)).await;
        assert_eq!(page.start, Continuity::Gap { reason: GapReason::Unknown, oldest: Some(events[0].0), lost: None });
        assert_eq!(data(&page), ["0", "1", "2"]);
        let future = EventId::new(events[2].0.ms + 1_000_000, 0);
        let page = read(&own.broker, "a", after(future)).await;
        assert_eq!(page.start, Continuity::Gap { reason: GapReason::LostTail, oldest: Some(events[0].0), lost: None });
    }

    async fn trimming_by_count_keeps_the_newest_and_is_reported_as_a_gap(backend: Backend) {
        let own = own(backend, |retention| retention.events_max = NonZeroUsize::new(100).unwrap()).await;
        let before = own.broker.last_id(&channel("a")).await.unwrap();
        for start in (0..1000).step_by(50) {
            append(&own.broker, "a", start..start + 50).await;
        }
        let kept = all(&own.broker, "a").await;
        // Redis trims whole nodes of a stream.
        let most = if backend == Backend::Redis { 300 } else { 100 };
        assert!((100..=most).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().1, "999");
        let page = read(&own.broker, "a", after(before)).await;
        assert_eq!(page.start, Continuity::Gap { reason: GapReason::Trimmed, oldest: Some(kept[0].0), lost: None });
        assert_eq!(page.events.len(), kept.len());
        let page = read(&own.broker, "a", ReadFrom::Position(Position::At(kept[0].0))).await;
        assert_eq!((page.start, page.events.len()), (Continuity::Contiguous, kept.len()));
    }

    async fn trimming_by_age_reaches_quiet_channels_and_keeps_their_newest_event(backend: Backend) {
        let own = own(backend, |retention| retention.age_max = Duration::from_millis(300)).await;
        let last = append(&own.broker, "a", 0..50).await;
        until("only the newest is left", async || (all(&own.broker, "a").await.len() == 1).then_some(())).await;
        assert_eq!(all(&own.broker, "a").await[0].0, last);
        let page = read(&own.broker, "a", after(last)).await;
        assert_eq!((page.start, page.events.len()), (Continuity::Contiguous, 0));
        append(&own.broker, "a", 50..52).await;
        let page = read(&own.broker, "a", after(last)).await;
        assert_eq!((page.start, data(&page)), (Continuity::Contiguous, vec!["50", "51"]));
    }

    async fn a_follower_is_notified_of_every_append_to_its_channel(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let bell = Arc::new(Bell::default());
        let watcher: Arc<dyn Watcher> = bell.clone();
        own.broker.follow(&channel("a"), Arc::downgrade(&watcher));
        let mut seen = 0;
        let head = own.broker.last_id(&channel("a")).await.unwrap();
        for number in 0..20 {
            append(&own.broker, "a", number..number + 1).await;
            // Notifications may be merged or redundant; there must be one after each append.
            while seen <= number {
                within("a notification after an append", bell.0.notified()).await;
                seen = read(&own.broker, "a", after(head)).await.events.len();
            }
        }
    }

    async fn an_in_process_log_hands_over_what_it_has_committed(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let groups = Arc::new(Groups::default());
        let watcher: Arc<dyn Watcher> = groups.clone();
        own.broker.follow(&channel("a"), Arc::downgrade(&watcher));
        let head = own.broker.last_id(&channel("a")).await.unwrap();
        append(&own.broker, "a", 0..3).await;
        append(&own.broker, "b", 0..1).await;
        append(&own.broker, "a", 3..4).await;
        let page = read(&own.broker, "a", after(head)).await;
        let expected: Vec<EventId> = page.events.iter().map(|event| event.id).collect();
        let groups = groups.0.lock().unwrap();
        if backend == Backend::Redis {
            assert!(groups.is_empty());
        } else {
            let [first, second] = [&expected[..3], &expected[3..]].map(<[EventId]>::to_vec);
            assert_eq!(*groups, [(head, first), (expected[2], second)]);
        }
    }

    async fn channels_have_a_limit(backend: Backend) {
        let own = own(backend, |retention| retention.channels_max = 3).await;
        for name in ["a", "b", "c", "a"] {
            append(&own.broker, name, 0..1).await;
        }
        let refused = own.broker.append(Publisher::default(), &channel("d"), numbers(0..1)).await;
        assert!(matches!(refused, Err(BrokerError::TooManyChannels(_))), "{refused:?}");
        append(&own.broker, "b", 1..2).await;
        assert!(all(&own.broker, "d").await.is_empty());
    }

    async fn reading_from_a_time_finds_the_events_from_that_time_on(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let first = append(&own.broker, "a", 0..5).await;
        let page = read(&own.broker, "a", ReadFrom::Time(first.ms)).await;
        assert_eq!((page.start, page.events.last().map(|event| event.id)), (Continuity::Contiguous, Some(first)));
        let page = read(&own.broker, "a", ReadFrom::Time(first.ms + 1)).await;
        assert_eq!((page.start, page.events.len(), page.last), (Continuity::Contiguous, 0, first));
    }

    async fn reading_backwards_returns_the_same_events_newest_first(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let empty = own.broker.read_back(&channel("a"), None, ALL).await.unwrap();
        assert_eq!((empty.events.len(), empty.more, empty.last), (0, false, own.broker.last_id(&channel("a")).await.unwrap()));
        append(&own.broker, "other", 0..3).await;
        let last = append(&own.broker, "a", 0..40).await;
        let mut forward = all(&own.broker, "a").await;
        for limits in [ALL, PageLimits { events_max: 7, ..ALL }, PageLimits { bytes_max: 20, ..ALL }] {
            let (mut before, mut backward) = (None, Vec::new());
            loop {
                let page = own.broker.read_back(&channel("a"), before, limits).await.unwrap();
                assert_eq!(page.last, last);
                before = page.events.last().map(|event| event.id);
                backward.extend(page.events.into_iter().map(|event| (event.id, event.data.to_string())));
                if !page.more {
                    break;
                }
            }
            backward.reverse();
            assert_eq!(backward, forward);
        }
        let oldest = forward.swap_remove(0).0;
        assert_eq!(own.broker.read_back(&channel("a"), Some(oldest), ALL).await.unwrap().events, []);
    }

    async fn a_settled_range_never_gets_another_event(backend: Backend) {
        let own = own(backend, |_| {}).await;
        let publishers = (0..4).map(|number| {
            let broker = own.broker.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..300 {
                    ids.push(append(&broker, "a", number..number + 1).await);
                }
                ids
            })
        });
        let publishers: Vec<_> = publishers.collect();
        let bound = EventId::new(own.broker.now_ms().await.unwrap() + 50, u64::MAX);
        let last = settled(&own.broker, "a", bound).await;
        let within = |(id, _): &(EventId, String)| *id <= bound;
        let complete: Vec<_> = all(&own.broker, "a").await.into_iter().filter(within).collect();
        assert!(complete.iter().all(|(id, _)| *id <= last));
        for publisher in publishers {
            publisher.await.unwrap();
        }
        append(&own.broker, "a", 0..1).await;
        assert_eq!(all(&own.broker, "a").await.into_iter().filter(within).collect::<Vec<_>>(), complete);
        // A channel without events settles too, but a time in the future does not.
        let quiet = channel("quiet");
        assert_eq!(settled(&own.broker, "quiet", bound).await, own.broker.last_id(&quiet).await.unwrap());
        let to_come = EventId::new(own.broker.now_ms().await.unwrap() + 100_000, 0);
        let Settled::NotFor(wait) = own.broker.check_settled(&channel("a"), to_come).await.unwrap() else { panic!("{to_come}") };
        assert!((50..=102).contains(&wait.as_secs()), "{wait:?}");
    }

    async fn a_health_check_makes_a_round_trip(backend: Backend) {
        let own = own(backend, |_| {}).await;
        own.broker.check().await.unwrap();
        if let Broker::Embedded(log) = &own.broker {
            log.close();
            assert!(own.broker.check().await.is_err());
            let read = own.broker.read(&channel("a"), ReadFrom::Oldest, ALL).await;
            assert!(matches!(read, Err(BrokerError::Unavailable(_))), "{read:?}");
            // The file of the log is closed even though the test still has a handle, so another log
            // may open it.
            embedded(Location::Directory(own.directory.path().join("log"), DataMode::PRIVATE), retention()).check().await.unwrap();
        }
    }
}

fn page_end(page: &Page) -> ReadFrom {
    ReadFrom::Position(page.end(ReadFrom::Oldest))
}

/// Counts the macro's cases per broker, so that no broker misses one.
#[test]
fn every_broker_has_the_same_cases() {
    let listed = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let cases = |broker: &str| {
        let marked = format!("::{broker}::");
        listed.lines().filter(|line| line.contains(&marked)).count()
    };
    let counts = [cases("embedded"), cases("memory"), cases("redis")];
    println!(
        "cases: {} embedded, {} in memory, {} over Redis",
        counts[0], counts[1], counts[2]
    );
    assert!(
        counts[0] > 10 && counts.iter().all(|count| *count == counts[0]),
        "{counts:?}"
    );
}
