//! Six hundred damaged copies of a log: each opens and serves only verified runs of events, or says what is wrong and
//! what to do. None panics, none gives a damaged event, none takes a shorter history for the whole one.

use std::{collections::BTreeMap, fmt::Display, fs, num::NonZeroUsize, path::Path, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::TableHandle as _;
use sse_proto::{Channel, Event, EventId, Position};
use sse_server::{
    broker::{
        Broker, BrokerError, From, PageLimits, Retention, Start, Stored,
        embedded::{Embedded, OpenError, Place},
        once::KeyLimits,
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
    appended: u64,
    wrong: Vec<String>,
}

fn open(directory: &Path) -> Result<Embedded, OpenError> {
    let retention = Retention {
        events_max: NonZeroUsize::new(EVENTS_KEPT).unwrap(),
        age_max: Duration::from_hours(24),
        bytes_max: 1 << 30,
        channels_max: 100,
        keys: KeyLimits { window: Duration::from_mins(10), keys_max: 1000 },
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
                // More than there can be are no run of what was there, and are told as such.
                if !page.more || all.len() > 2 * EVENTS_KEPT {
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

/// What stands in the few pages on which everything else depends: the names of tables, of numbers, of channels.
const SMALL_TABLES: [&[u8]; 3] = [b"forgotten", b"highest_ms", b"ordersquietsiteusers"];

fn places(bytes: &[u8], words: &[u8]) -> Vec<usize> {
    bytes.windows(words.len()).enumerate().filter(|(_, window)| *window == words).map(|(at, _)| at).collect()
}

/// Changes 1 to 16 bytes somewhere, mostly where something is written; or cuts the file.
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
            let of_small_tables: Vec<usize> = SMALL_TABLES.iter().flat_map(|words| places(bytes, words)).collect();
            of_small_tables[chance.random_range(0..of_small_tables.len())] + chance.random_range(0..600) - 300
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

/// What is said of a copy, held against what there was.
struct Examined<'a> {
    what: String,
    directory: &'a Path,
    truth: &'a Truth,
    tally: &'a mut Tally,
}

impl Examined<'_> {
    fn hold(&mut self, holds: bool, why: impl Display) {
        if !holds {
            self.tally.wrong.push(format!("{}: {why}", self.what));
        }
    }

    /// What must be in every text that tells of damage: which file, and the way out.
    fn hold_helpful(&mut self, text: &str) {
        // A damaged format looks like a later one; then the way out is another directory.
        let way_out = text.contains("backup") || (text.contains("format") && text.contains("--data-dir"));
        let helps = text.contains(&self.directory.display().to_string()) && way_out;
        self.hold(helps, format_args!("no file or no way out in: {text}"));
    }

    /// Reads are a part of what there was, from where they were asked for, and the whole unless they say so.
    async fn read(
        &mut self,
        broker: &Broker,
        name: &str,
        from: From,
        starts: fn(Start) -> bool,
        truth: &[Stored],
    ) -> bool {
        let (start, events, error) = read(broker, name, from).await;
        let asked = format!("{name} from {from:?}");
        self.hold(start.is_none_or(starts), format_args!("{asked} starts as {start:?}"));
        let is_run = events.len() <= truth.len() && events == truth[..events.len()];
        self.hold(is_run, format_args!("{asked} gives {} events that are no run of what was there", events.len()));
        match &error {
            None => self.hold(
                events.len() == truth.len(),
                format_args!("{asked} takes {} events for all {}", events.len(), truth.len()),
            ),
            Some(BrokerError::Damaged(why)) => self.hold_helpful(why),
            Some(other) => self.hold(false, format_args!("{asked} fails as {other:?}")),
        }
        error.is_none()
    }

    async fn check(&mut self, broker: &Broker) {
        let contiguous = |start| start == Start::Contiguous;
        let gap = |start| matches!(start, Start::Gap { .. });
        let mut sound = true;
        for (name, events) in self.truth {
            sound &= self.read(broker, name, From::Oldest, contiguous, events).await;
            let (middle, last) = (events.len() / 2, events.len() - 1);
            for (position, following) in [
                (Position::After(events[middle].id), &events[middle + 1..]),
                (Position::At(events[middle].id), &events[middle..]),
                (Position::After(events[last].id), &[][..]),
            ] {
                sound &= self.read(broker, name, From::Position(position), contiguous, following).await;
            }
            // A stranger's id is not proved by damage.
            let stranger = From::Position(Position::After(EventId::new(1, 1)));
            sound &= self.read(broker, name, stranger, gap, events).await;
        }
        *(if sound { &mut self.tally.whole } else { &mut self.tally.damaged_reads }) += 1;
    }

    /// A new event is stored or not: either way what is read is true.
    async fn check_append(&mut self, broker: &Broker) {
        let Ok(appended) = broker.append(&channel("orders"), vec![event("new".to_owned())]).await else { return };
        self.tally.appended += 1;
        let last = self.truth["orders"].last().unwrap().id;
        let newest = self.truth.values().flatten().map(|event| event.id).max().unwrap();
        self.hold(appended.first > newest, format_args!("{} was given out before", appended.first));
        let (start, following, error) = read(broker, "orders", From::Position(Position::After(last))).await;
        let is_new = following.len() == 1 && following[0].id == appended.first && following[0].data == "new";
        self.hold(
            error.is_some() || (start == Some(Start::Contiguous) && is_new),
            format_args!("after an append {start:?} with {} events follow", following.len()),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_damaged_copies_serve_what_is_true_or_say_what_is_wrong() {
    let directory = TempDir::new().unwrap();
    let truth = make(directory.path()).await;
    let file = directory.path().join("events.redb");
    let good = fs::read(&file).unwrap();
    assert!(SMALL_TABLES.iter().all(|words| !places(&good, words).is_empty()), "the pages to be damaged are there");
    let mut tally = Tally::default();
    for copy in 0..COPIES {
        let mut chance = StdRng::seed_from_u64(copy);
        let mut bytes = good.clone();
        let what = format!("copy {copy}, {}", damage(&mut bytes, &mut chance));
        fs::write(&file, &bytes).unwrap();
        let mut examined = Examined { what, directory: directory.path(), truth: &truth, tally: &mut tally };
        match open(directory.path()) {
            Err(error) => {
                examined.hold_helpful(&error.to_string());
                examined.tally.refused += 1;
            }
            Ok(log) => {
                let broker = Broker::Embedded(log.clone());
                examined.check(&broker).await;
                examined.check_append(&broker).await;
                log.close();
            }
        }
    }
    println!("{COPIES} damaged copies of {} bytes: {tally:#?}", good.len());
    assert!(tally.wrong.is_empty(), "{} promises were broken", tally.wrong.len());
    assert!(tally.refused > 50 && tally.whole > 50 && tally.damaged_reads > 50, "{tally:?}");
}

/// Opening a table makes it, so one whose name is damaged would begin anew, empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_found_is_damage_and_no_empty_log() {
    for missing in ["events", "channels", "forgotten", "meta"] {
        let directory = TempDir::new().unwrap();
        make(directory.path()).await;
        {
            let database = redb::Database::open(directory.path().join("events.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            let handle = transaction.list_tables().unwrap().find(|table| table.name() == missing).unwrap();
            assert!(transaction.delete_table(handle).unwrap());
            transaction.commit().unwrap();
        }
        let error = open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Unreadable { .. }), "{missing}: {error}");
        assert!(error.to_string().contains(&format!("the table {missing} is missing")), "{error}");
    }
}
