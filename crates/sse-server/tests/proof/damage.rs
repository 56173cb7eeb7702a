//! Opens and reads six hundred damaged copies of a log.
//!
//! Each copy either opens and serves only verified runs of events, with a gap wherever an event
//! is missing, or fails with an error that names the damage and the remedy. No copy causes a panic,
//! returns a damaged event or passes off a shortened history as the whole one.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    num::NonZeroUsize,
    panic,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::{TableDefinition, TableHandle as _, WriteTransaction};
use sse_proto::{Channel, Event, EventId, Position, api::GapReason};
use sse_server::{
    broker::{
        Broker, BrokerError, Continuity, PageLimits, Publisher, ReadFrom, Retention, Stored,
        embedded::{DataMode, Embedded, Location, OpenError, is_catching_panic},
        idempotency::{AppendItem, Fingerprint, IdempotencyKey, KeyLimits},
    },
    metrics::Metrics,
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot};

const COPIES: u64 = 600;
const CHANNELS: [&str; 4] = ["orders", "users", "site", "quiet"];
/// The channel whose events have keys.
const KEYED: &str = "orders";
const EVENTS_KEPT: usize = 200;
const LIMITS: PageLimits = PageLimits {
    events_max: 64,
    bytes_max: 1 << 20,
};

/// The events that the log keeps, per channel.
type Truth = BTreeMap<&'static str, Vec<Stored>>;

/// Counts of what happened to the copies.
#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    whole: u64,
    damaged_reads: u64,
    /// Gaps reported, and reads that ended with an error.
    gaps: u64,
    errors: u64,
    served: u64,
    appended: u64,
    repeated: u64,
    wrong: Vec<String>,
}

fn open(directory: &Path) -> Result<Embedded, OpenError> {
    let retention = Retention {
        events_max: NonZeroUsize::new(EVENTS_KEPT).unwrap(),
        age_max: Duration::from_hours(24),
        bytes_max: 1 << 30,
        channels_max: 100,
        keys: KeyLimits {
            window: Duration::from_mins(10),
            keys_max: 1000,
            bytes_max: u64::MAX,
        },
    };
    let (gave_up, _) = oneshot::channel();
    let location = Location::Directory(directory.to_owned(), DataMode::PRIVATE);
    Embedded::open(
        location,
        retention,
        0,
        Metrics::new(),
        Handle::current(),
        gave_up,
    )
}

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn event(data: String) -> Event {
    Event {
        kind: "view".parse().unwrap(),
        data: data.into(),
    }
}

/// Returns an event whose idempotency key is its data.
fn keyed(data: String) -> AppendItem {
    let key = Fingerprint::of_key(data.as_bytes());
    let events = vec![event(data)];
    let idempotency = IdempotencyKey {
        key,
        content: Fingerprint::of_events(&events),
    };
    AppendItem {
        events,
        idempotency: Some(idempotency),
    }
}

/// Creates a log with trimmed channels, large and small events, and one channel with few events.
async fn make(directory: &Path) -> Truth {
    let log = open(directory).unwrap();
    let broker = Broker::Embedded(log.clone());
    for round in 0..60 {
        for (number, name) in CHANNELS.iter().enumerate() {
            let count = if *name == "quiet" {
                usize::from(round == 0) * 3
            } else {
                3 + number * 2
            };
            for nth in 0..count {
                let data = format!(
                    "{name} {round} {nth} {}",
                    "x".repeat((round * 37 + nth * 411) % 1500)
                );
                match *name {
                    KEYED => drop(
                        broker
                            .append_idempotent(
                                Publisher::default(),
                                &channel(name),
                                vec![keyed(data)],
                            )
                            .await
                            .unwrap(),
                    ),
                    _ => drop(
                        broker
                            .append(Publisher::default(), &channel(name), vec![event(data)])
                            .await
                            .unwrap(),
                    ),
                }
            }
        }
    }
    let mut truth = Truth::new();
    for name in CHANNELS {
        let (parts, error) = read(&broker, name, ReadFrom::Oldest).await;
        assert!(error.is_none());
        let event = |part| match part {
            Read::Event(event) => event,
            gap @ Read::Gap(..) => panic!("{gap:?} in a sound log"),
        };
        truth.insert(name, parts.into_iter().map(event).collect());
    }
    assert_eq!(truth["orders"].len(), 180);
    assert_eq!(truth["users"].len(), EVENTS_KEPT);
    assert_eq!(truth["quiet"].len(), 3);
    log.close();
    truth
}

/// Part of what a reader receives.
#[derive(Debug)]
enum Read {
    Event(Stored),
    /// Events before this id may be missing; without an id, events up to the end of the channel.
    Gap(GapReason, Option<EventId>),
}

/// Reads all pages from a position. Returns the parts, and the error if reading stopped early.
async fn read(broker: &Broker, name: &str, from: ReadFrom) -> (Vec<Read>, Option<BrokerError>) {
    let (mut parts, mut asked) = (Vec::new(), from);
    loop {
        match broker.read(&channel(name), asked, LIMITS).await {
            Ok(page) => {
                let end = page.end(asked);
                if let Continuity::Gap { reason, oldest, .. } = page.start {
                    parts.push(Read::Gap(reason, oldest));
                }
                parts.extend(page.events.into_iter().map(Read::Event));
                // Stop if there are more parts than the log ever held; the caller reports them as
                // wrong.
                if !page.more || parts.len() > 4 * EVENTS_KEPT {
                    return (parts, None);
                }
                asked = ReadFrom::Position(end);
            }
            Err(error) => return (parts, Some(error)),
        }
    }
}

/// Content of the few pages on which all others depend: names of tables, log headers and channels.
const SMALL_TABLES: [&[u8]; 3] = [b"forgotten", b"numbers", b"ordersquietsiteusers"];

fn places(bytes: &[u8], words: &[u8]) -> Vec<usize> {
    bytes
        .windows(words.len())
        .enumerate()
        .filter(|(_, window)| *window == words)
        .map(|(at, _)| at)
        .collect()
}

/// Changes 1 to 16 bytes, mostly in used parts of the file, or truncates the file.
fn damage(bytes: &mut Vec<u8>, chance: &mut StdRng) -> String {
    if chance.random_range(0..6) == 0 {
        let length = chance.random_range(0..bytes.len());
        bytes.truncate(length);
        return format!("cut to {length} bytes");
    }
    let count = chance.random_range(1..=16);
    let at = match chance.random_range(0..5) {
        0 => chance.random_range(0..bytes.len()),
        1 => chance.random_range(0..512),
        2 => {
            let of_small_tables: Vec<usize> = SMALL_TABLES
                .iter()
                .flat_map(|words| places(bytes, words))
                .collect();
            of_small_tables[chance.random_range(0..of_small_tables.len())]
                + chance.random_range(0..600)
                - 300
        }
        _ => {
            let is_written = |nth: &usize| bytes[nth * 64..][..64].iter().any(|byte| *byte != 0);
            let written: Vec<usize> = (0..bytes.len() / 64).filter(is_written).collect();
            written[chance.random_range(0..written.len())] * 64 + chance.random_range(0..64)
        }
    };
    let at = at.min(bytes.len() - count);
    for byte in &mut bytes[at..at + count] {
        *byte ^= chance.random_range(1..=255_u8);
    }
    format!("{count} bytes changed at {at}")
}

/// Compares a copy with the original log.
struct Examined<'a> {
    what: String,
    directory: &'a Path,
    truth: &'a Truth,
    outcomes: &'a mut Outcomes,
}

impl Examined<'_> {
    fn hold(&mut self, holds: bool, why: impl Display) {
        if !holds {
            self.outcomes.wrong.push(format!("{}: {why}", self.what));
        }
    }

    /// Checks that an error message about damage names the file and the remedy.
    fn hold_helpful(&mut self, text: &str) {
        // A damaged format number looks like a later format; the remedy is then another directory.
        let way_out =
            text.contains("backup") || (text.contains("format") && text.contains("--data-dir"));
        let helps = text.contains(&self.directory.display().to_string()) && way_out;
        self.hold(helps, format_args!("no file or no way out in: {text}"));
    }

    /// Checks that a read returns the original events from the requested position. Missing events
    /// must be in a reported gap, and no gap may be empty.
    async fn read(
        &mut self,
        broker: &Broker,
        name: &str,
        from: ReadFrom,
        truth: &[Stored],
        is_stranger: bool,
    ) -> bool {
        let (parts, error) = read(broker, name, from).await;
        let asked = format!("{name} from {from:?}");
        let (mut left, mut gap, gaps_before) = (truth, None, self.outcomes.gaps);
        let mut parts = parts.iter().peekable();
        if is_stranger {
            // The reader must get a gap, whether or not events are missing.
            let gap_start = parts.next_if(|part| matches!(part, Read::Gap(..)));
            self.hold(
                gap_start.is_some() || error.is_some(),
                format_args!("{asked} is accepted as an id of this log"),
            );
            gap = gap_start.and_then(|gap_start| match gap_start {
                Read::Gap(GapReason::Damaged, oldest) => Some(*oldest),
                _ => None,
            });
        }
        for part in parts {
            match part {
                Read::Gap(reason, oldest) => {
                    self.outcomes.gaps += 1;
                    self.hold(
                        *reason == GapReason::Damaged,
                        format_args!("{asked}: a gap {reason:?}"),
                    );
                    self.hold(gap.is_none(), format_args!("{asked}: a gap after a gap"));
                    gap = Some(*oldest);
                }
                Read::Event(event) => {
                    self.outcomes.served += 1;
                    let Some(skipped) = left.iter().position(|expected| expected == event) else {
                        self.hold(
                            false,
                            format_args!(
                                "{asked}: {} differs from the original or is out of order",
                                event.id
                            ),
                        );
                        return false;
                    };
                    let gap_start = gap.take();
                    self.hold(
                        gap_start.is_some() == (skipped > 0),
                        format_args!(
                            "{asked}: {skipped} are missing before {}, gap {gap_start:?}",
                            event.id
                        ),
                    );
                    self.hold(
                        gap_start.is_none_or(|oldest| oldest == Some(event.id)),
                        format_args!("{asked}: a gap to {gap_start:?}"),
                    );
                    left = &left[skipped + 1..];
                }
            }
        }
        match &error {
            None => self.hold(
                (gap == Some(None)) != left.is_empty(),
                format_args!(
                    "{asked}: {} are missing at the end, gap {gap:?}",
                    left.len()
                ),
            ),
            Some(BrokerError::Damaged(why)) => {
                self.outcomes.errors += 1;
                self.hold_helpful(why);
            }
            Some(other) => self.hold(false, format_args!("{asked} fails as {other:?}")),
        }
        error.is_none() && self.outcomes.gaps == gaps_before
    }

    /// Checks that reading backwards returns only original events, each once.
    async fn read_back(&mut self, broker: &Broker, name: &str, truth: &[Stored]) {
        let Ok(page) = broker.read_back(&channel(name), None, LIMITS).await else {
            return;
        };
        let ordered = page.events.is_sorted_by(|newer, older| newer.id > older.id);
        self.hold(
            ordered && page.events.iter().all(|event| truth.contains(event)),
            format_args!("{name} backwards"),
        );
    }

    async fn check(&mut self, broker: &Broker) {
        let mut sound = true;
        for (name, events) in self.truth {
            sound &= self
                .read(broker, name, ReadFrom::Oldest, events, false)
                .await;
            let (middle, last) = (events.len() / 2, events.len() - 1);
            for (position, following) in [
                (Position::After(events[middle].id), &events[middle + 1..]),
                (Position::At(events[middle].id), &events[middle..]),
                (Position::After(events[last].id), &[][..]),
            ] {
                sound &= self
                    .read(broker, name, ReadFrom::Position(position), following, false)
                    .await;
            }
            // Damage must not make an unknown id valid.
            let stranger = ReadFrom::Position(Position::After(EventId::new(1, 1)));
            sound &= self.read(broker, name, stranger, events, true).await;
            self.read_back(broker, name, events).await;
        }
        *(if sound {
            &mut self.outcomes.whole
        } else {
            &mut self.outcomes.damaged_reads
        }) += 1;
    }

    /// Checks that events with a known key are not stored again if the log reports no damage.
    async fn check_keys(&mut self, broker: &Broker) {
        let events = &self.truth[KEYED];
        let parts = events
            .iter()
            .map(|event| keyed(event.data.to_string()))
            .collect();
        let Ok(placed) = broker
            .append_idempotent(Publisher::default(), &channel(KEYED), parts)
            .await
        else {
            return;
        };
        for (event, placed) in events.iter().zip(placed) {
            let is_known = placed.duplicate && placed.ids.first == event.id;
            self.hold(
                is_known,
                format_args!("the key of {} is not known: {placed:?}", event.id),
            );
        }
        self.outcomes.repeated += 1;
    }

    /// Checks that reads stay correct whether or not a new event is stored.
    async fn check_append(&mut self, broker: &Broker) {
        let Ok(appended) = broker
            .append(
                Publisher::default(),
                &channel("orders"),
                vec![event("new".to_owned())],
            )
            .await
        else {
            return;
        };
        self.outcomes.appended += 1;
        let last = self.truth["orders"].last().unwrap().id;
        let newest = self
            .truth
            .values()
            .flatten()
            .map(|event| event.id)
            .max()
            .unwrap();
        self.hold(
            appended.first > newest,
            format_args!("{} is an id that was already assigned", appended.first),
        );
        let (parts, error) =
            read(broker, "orders", ReadFrom::Position(Position::After(last))).await;
        let is_new = |event: &Stored| event.id == appended.first && event.data == "new";
        self.hold(
            error.is_some() || matches!(parts.as_slice(), [Read::Event(event)] if is_new(event)),
            format_args!("after an append follows {parts:?}"),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_damaged_copies_serve_true_events_or_report_the_damage() {
    let directory = TempDir::new().unwrap();
    let truth = make(directory.path()).await;
    let file = directory.path().join("events.redb");
    let good = fs::read(&file).unwrap();
    assert!(
        SMALL_TABLES
            .iter()
            .all(|words| !places(&good, words).is_empty()),
        "the pages to damage were not found"
    );
    let caught = count_caught_panics();
    let mut outcomes = Outcomes::default();
    for copy in 0..COPIES {
        let mut chance = StdRng::seed_from_u64(copy);
        let mut bytes = good.clone();
        let what = format!("copy {copy}, {}", damage(&mut bytes, &mut chance));
        fs::write(&file, &bytes).unwrap();
        let mut examined = Examined {
            what,
            directory: directory.path(),
            truth: &truth,
            outcomes: &mut outcomes,
        };
        match open(directory.path()) {
            Err(error) => {
                examined.hold_helpful(&error.to_string());
                examined.outcomes.refused += 1;
            }
            Ok(log) => {
                let broker = Broker::Embedded(log.clone());
                examined.check(&broker).await;
                examined.check_append(&broker).await;
                examined.check_keys(&broker).await;
                log.close();
            }
        }
    }
    println!(
        "{COPIES} damaged copies of {} bytes: {outcomes:#?}",
        good.len()
    );
    assert!(
        outcomes.wrong.is_empty(),
        "{} guarantees were broken",
        outcomes.wrong.len()
    );
    assert!(
        outcomes.refused > 50 && outcomes.whole > 50 && outcomes.damaged_reads > 50,
        "{outcomes:?}"
    );
    assert!(
        caught.load(Relaxed) > 0,
        "redb did not panic, or the log has replaced this program's panic hook"
    );
}

/// Installs a panic hook that counts the panics that the log catches, and prints all others.
fn count_caught_panics() -> Arc<AtomicU64> {
    let caught = Arc::new(AtomicU64::new(0));
    let (counter, print) = (caught.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        if is_catching_panic() {
            counter.fetch_add(1, Relaxed);
        } else {
            print(panic);
        }
    }));
    caught
}

/// Channel rows and log headers have checksums too, which include the names they are stored under.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_name_or_header_of_the_log_is_rejected() {
    const CHANNELS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("channels");
    const NUMBERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("numbers");
    type Change = fn(&WriteTransaction);
    let changes: [(&str, Change); 3] = [
        ("channel", |transaction| {
            let mut channels = transaction.open_table(CHANNELS).unwrap();
            let row = channels.remove("orders").unwrap().unwrap().value().to_vec();
            channels.insert("order", row.as_slice()).unwrap();
        }),
        ("numbers", |transaction| {
            let mut numbers = transaction.open_table(NUMBERS).unwrap();
            let mut row = numbers.remove("log").unwrap().unwrap().value().to_vec();
            row[0] ^= 1;
            numbers.insert("log", row.as_slice()).unwrap();
        }),
        ("numbers", |transaction| {
            transaction
                .open_table(NUMBERS)
                .unwrap()
                .remove("log")
                .unwrap()
                .unwrap();
        }),
    ];
    for (what, change) in changes {
        let directory = TempDir::new().unwrap();
        make(directory.path()).await;
        let database = redb::Database::open(directory.path().join("events.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        drop(database);
        let error = open(directory.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::Unreadable { .. }) && error.to_string().contains(what),
            "{error}"
        );
    }
}

/// Opening a table creates it, so a table whose name is damaged would start anew, empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_damage_and_not_an_empty_log() {
    let tables = [
        ("events", "the table events is missing"),
        ("channels", "the table channels is missing"),
        ("forgotten", "the table forgotten is missing"),
        ("numbers", "the table numbers is missing"),
        ("meta", "the table meta is missing"),
        ("keys", "0 of 180 keys of publishes are there"),
        ("key_expiries", "0 of 180 keys of publishes are there"),
        ("key_tallies", "180 of 0 keys of publishes are there"),
    ];
    for (missing, why) in tables {
        let directory = TempDir::new().unwrap();
        make(directory.path()).await;
        {
            let database = redb::Database::open(directory.path().join("events.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            let handle = transaction
                .list_tables()
                .unwrap()
                .find(|table| table.name() == missing)
                .unwrap();
            assert!(transaction.delete_table(handle).unwrap());
            transaction.commit().unwrap();
        }
        let error = open(directory.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::Unreadable { .. }),
            "{missing}: {error}"
        );
        assert!(error.to_string().contains(why), "{missing}: {error}");
    }
}
