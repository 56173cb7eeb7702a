//! Six hundred damaged copies of a log: each opens and serves only verified runs of events, or says what is wrong and
//! what to do. None panics, none gives a damaged event, none takes a shorter history for the whole one.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::Path, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sse_proto::{Channel, Event, EventId, Position};
use sse_server::{
    broker::{
        Broker, BrokerError, From, PageLimits, Retention, Start, Stored,
        embedded::{Embedded, OpenError, Place},
    },
    metrics::Metrics,
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot};

const COPIES: u64 = 600;
const CHANNELS: [&str; 4] = ["orders", "users", "site", "quiet"];
const EVENTS_KEPT: usize = 200;
const LIMITS: PageLimits = PageLimits { events_max: 64, bytes_max: 1 << 20 };

/// What the log holds: the events that are kept of each channel.
type Truth = BTreeMap<&'static str, Vec<Stored>>;

/// What came of a copy.
#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    whole: u64,
    damaged_reads: u64,
}

fn open(directory: &Path) -> Result<Embedded, OpenError> {
    let retention = Retention {
        events_max: NonZeroUsize::new(EVENTS_KEPT).unwrap(),
        age_max: Duration::from_hours(24),
        bytes_max: 1 << 30,
        channels_max: 100,
    };
    let (gave_up, _) = oneshot::channel();
    let place = Place::Directory(directory.to_owned());
    Embedded::open(place, retention, 0, Metrics::new(), Handle::current(), gave_up)
}

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn event(data: String) -> Event {
    Event { kind: "view".parse().unwrap(), data: data.into() }
}

/// All events that a channel keeps, read in pages; with where reading stopped, if it did.
async fn read(broker: &Broker, name: &str, from: From) -> (Option<Start>, Vec<Stored>, Option<BrokerError>) {
    let (mut start, mut all, mut asked) = (None, Vec::new(), from);
    loop {
        match broker.read(&channel(name), asked, LIMITS).await {
            Ok(page) => {
                let end = page.end(asked);
                start.get_or_insert(page.start);
                all.extend(page.events);
                if !page.more {
                    return (start, all, None);
                }
                asked = From::Position(end);
            }
            Err(error) => return (start, all, Some(error)),
        }
    }
}

/// A log with trimmed channels, large and small events, and one channel that has few.
async fn make(directory: &Path) -> Truth {
    let log = open(directory).unwrap();
    let broker = Broker::Embedded(log.clone());
    for round in 0..60 {
        for (number, name) in CHANNELS.iter().enumerate() {
            let count = if *name == "quiet" { usize::from(round == 0) * 3 } else { 3 + number * 2 };
            for nth in 0..count {
                let data = format!("{name} {round} {nth} {}", "x".repeat((round * 37 + nth * 411) % 1500));
                broker.append(&channel(name), vec![event(data)]).await.unwrap();
            }
        }
    }
    let mut truth = Truth::new();
    for name in CHANNELS {
        let (start, events, error) = read(&broker, name, From::Oldest).await;
        assert!(start == Some(Start::Contiguous) && error.is_none());
        truth.insert(name, events);
    }
    assert_eq!(truth["orders"].len(), 180);
    assert_eq!(truth["users"].len(), EVENTS_KEPT);
    assert_eq!(truth["quiet"].len(), 3);
    log.close();
    truth
}

/// Changes 1 to 16 bytes somewhere, mostly where something is written; or cuts the file.
fn damage(bytes: &mut Vec<u8>, chance: &mut StdRng) -> String {
    if chance.random_range(0..6) == 0 {
        let length = chance.random_range(0..bytes.len());
        bytes.truncate(length);
        return format!("cut to {length} bytes");
    }
    let written: Vec<usize> =
        (0..bytes.len() / 64).filter(|nth| bytes[nth * 64..][..64].iter().any(|byte| *byte != 0)).collect();
    let count = chance.random_range(1..=16);
    let at = match chance.random_range(0..4) {
        0 => chance.random_range(0..bytes.len() - count),
        1 => chance.random_range(0..512),
        _ => {
            (written[chance.random_range(0..written.len())] * 64 + chance.random_range(0..64)).min(bytes.len() - count)
        }
    };
    for byte in &mut bytes[at..at + count] {
        *byte ^= chance.random_range(1..=255_u8);
    }
    format!("{count} bytes changed at {at}")
}

/// What must be in every text that tells of damage: which file, and the way out.
fn assert_helps(text: &str, directory: &Path, what: &str) {
    assert!(text.contains(&directory.display().to_string()), "{what}: {text}");
    assert!(text.contains("backup"), "{what}: {text}");
}

/// What is read is a part of what there was, from where it was asked for, and the whole unless it says so.
fn assert_verified(name: &str, truth: &[Stored], read: &[Stored], error: Option<&BrokerError>, what: &str) {
    assert!(read.len() <= truth.len(), "{what}: {name} has {} events", read.len());
    for (read, truth) in read.iter().zip(truth) {
        assert_eq!(read, truth, "{what}: {name}");
    }
    assert!(error.is_some() || read.len() == truth.len(), "{what}: {name} is short: {} of {}", read.len(), truth.len());
}

async fn check(broker: &Broker, truth: &Truth, directory: &Path, what: &str, tally: &mut Tally) {
    let mut sound = true;
    let mut note = |error: Option<&BrokerError>| {
        if let Some(error) = error {
            sound = false;
            assert!(matches!(error, BrokerError::Damaged(_)), "{what}: {error}");
            assert_helps(&error.to_string(), directory, what);
        }
    };
    for (name, events) in truth {
        let (_, all, error) = read(broker, name, From::Oldest).await;
        assert_verified(name, events, &all, error.as_ref(), what);
        note(error.as_ref());
        let middle = events.len() / 2;
        for (position, following) in [
            (Position::After(events[middle].id), &events[middle + 1..]),
            (Position::At(events[middle].id), &events[middle..]),
            (Position::After(events[events.len() - 1].id), &[][..]),
        ] {
            let (start, some, error) = read(broker, name, From::Position(position)).await;
            assert!(error.is_some() || start == Some(Start::Contiguous), "{what}: {name} at {position} is {start:?}");
            assert_verified(name, following, &some, error.as_ref(), what);
            note(error.as_ref());
        }
        // A stranger's id, and one that was trimmed, are not proved by damage.
        let (start, some, error) = read(broker, name, From::Position(Position::After(EventId::new(1, 1)))).await;
        assert!(error.is_some() || matches!(start, Some(Start::Gap { .. })), "{what}: {name} proves a stranger");
        assert_verified(name, events, &some, error.as_ref(), what);
        note(error.as_ref());
    }
    *(if sound { &mut tally.whole } else { &mut tally.damaged_reads }) += 1;
}

/// A new event is stored or not: either way what is read is true.
async fn check_append(broker: &Broker, truth: &Truth, what: &str) {
    let Ok(appended) = broker.append(&channel("orders"), vec![event("new".to_owned())]).await else { return };
    let last = truth["orders"].last().unwrap().id;
    let newest = truth.values().flatten().map(|event| event.id).max().unwrap();
    assert!(appended.first > last && appended.first > newest, "{what}: {} was given out twice", appended.first);
    let (_, following, error) = read(broker, "orders", From::Position(Position::After(last))).await;
    if error.is_none() {
        assert_eq!(following.len(), 1, "{what}");
        assert_eq!((following[0].id, &*following[0].data), (appended.first, "new"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_damaged_copies_serve_what_is_true_or_say_what_is_wrong() {
    let directory = TempDir::new().unwrap();
    let truth = make(directory.path()).await;
    let file = directory.path().join("events.redb");
    let good = fs::read(&file).unwrap();
    let mut tally = Tally::default();
    for copy in 0..COPIES {
        let mut chance = StdRng::seed_from_u64(copy);
        let mut bytes = good.clone();
        let what = format!("copy {copy}, {}", damage(&mut bytes, &mut chance));
        fs::write(&file, &bytes).unwrap();
        match open(directory.path()) {
            Err(error) => {
                assert_helps(&error.to_string(), directory.path(), &what);
                assert!(matches!(error, OpenError::Unreadable { .. } | OpenError::TooNew { .. }), "{what}: {error}");
                tally.refused += 1;
            }
            Ok(log) => {
                let broker = Broker::Embedded(log.clone());
                check(&broker, &truth, directory.path(), &what, &mut tally).await;
                check_append(&broker, &truth, &what).await;
                log.close();
            }
        }
    }
    println!("{COPIES} damaged copies of {} bytes: {tally:?}", good.len());
    assert!(tally.refused > 50 && tally.whole > 50 && tally.damaged_reads > 50, "{tally:?}");
}
