//! A data directory of format 2 is converted when it is opened, also if the server is killed meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redb::{ReadableDatabase as _, TableDefinition, TableHandle as _};
use sse_proto::{Channel, Event, EventId};
use sse_server::{
    broker::{
        Broker, PageLimits, Publisher, ReadFrom, Retention,
        embedded::{DataMode, Embedded, Location},
        idempotency::{AppendItem, Fingerprint, IdempotencyKey, KeyLimits},
        lifecycle::Write,
    },
    metrics::Metrics,
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The tables that format 3 has added.
const ADDED: [&str; 4] = ["lives", "tombstones", "deleted", "restores"];
const CHANNELS: u64 = 20;
const EVENTS: u64 = 5;
/// Moments at which the server is killed.
const KILLS: u32 = 12;

fn open(directory: &Path) -> Embedded {
    let retention = Retention {
        events_max: NonZeroUsize::new(100).unwrap(),
        age_max: Duration::from_hours(24),
        bytes_max: 1 << 30,
        channels_max: 100,
        keys: KeyLimits {
            window: Duration::from_hours(1),
            keys_max: 1000,
            bytes_max: u64::MAX,
        },
    };
    let (gave_up, _) = oneshot::channel();
    let location = Location::Directory(directory.to_owned(), DataMode::PRIVATE);
    let (metrics, runtime) = (Metrics::new(), Handle::current());
    Embedded::open(location, retention, 0, metrics, runtime, gave_up).unwrap()
}

fn channel(number: u64) -> Channel {
    format!("c{number}").parse().unwrap()
}

/// The events of a channel, whose first one has a key.
fn items(number: u64) -> Vec<AppendItem> {
    let item = |nth| {
        let events = vec![Event {
            kind: "step".parse().unwrap(),
            data: format!("{number} {nth}").into(),
        }];
        let idempotency = (nth == 0).then(|| IdempotencyKey {
            key: Fingerprint::of_key(b"first"),
            content: Fingerprint::of_events(&events),
        });
        AppendItem {
            events,
            idempotency,
        }
    };
    (0..EVENTS).map(item).collect()
}

/// Writes a log. Returns the ids of all events by channel.
async fn make(directory: &Path) -> Vec<Vec<EventId>> {
    let log = open(directory);
    let broker = Broker::Embedded(log.clone());
    let mut ids = Vec::new();
    for number in 0..CHANNELS {
        let channel = channel(number);
        let appended = broker.append_idempotent(Publisher::default(), &channel, items(number));
        let outcomes = appended.await.unwrap();
        ids.push(outcomes.iter().map(|outcome| outcome.ids.first).collect());
    }
    log.close();
    ids
}

/// Makes a log one of format 2, which has the same rows and fewer tables.
fn go_back(directory: &Path) {
    let database = redb::Database::open(directory.join("events.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let added: Vec<_> = transaction
        .list_tables()
        .unwrap()
        .filter(|table| ADDED.contains(&table.name()))
        .collect();
    assert_eq!(added.len(), ADDED.len());
    for table in added {
        assert!(transaction.delete_table(table).unwrap());
    }
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("format", 2).unwrap();
    drop(meta);
    transaction.commit().unwrap();
}

fn format(directory: &Path) -> u64 {
    let database = redb::Database::open(directory.join("events.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let meta = transaction.open_table(META).unwrap();
    meta.get("format").unwrap().unwrap().value()
}

/// Starts a server whose output goes to a file.
fn start(directory: &Path, output: &Path) -> Child {
    let output = fs::File::create(output).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command
        .args(["--bind", "127.0.0.1:0", "--data-dir"])
        .arg(directory);
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(output).spawn().unwrap()
}

/// Verifies that a log has everything, and what only format 3 has.
async fn verify(directory: &Path, ids: &[Vec<EventId>]) {
    let log = open(directory);
    let broker = Broker::Embedded(log.clone());
    let all = PageLimits {
        events_max: 100,
        bytes_max: 1 << 20,
    };
    for (number, ids) in (0..).zip(ids) {
        let (name, publisher) = (channel(number), Publisher::default());
        let page = broker.read(&name, ReadFrom::Oldest, all).await.unwrap();
        let read: Vec<_> = page.events.iter().map(|event| event.id).collect();
        assert_eq!(&read, ids);
        let first = items(number).swap_remove(0);
        let again = broker.append_idempotent(publisher, &name, vec![first]);
        let outcome = again.await.unwrap().remove(0);
        assert_eq!((outcome.duplicate, outcome.ids.first), (true, ids[0]));
    }
    let close = Write {
        close: Some("done".parse().unwrap()),
        ..Write::default()
    };
    let closed = broker.write(Publisher::default(), &channel(0), close).await;
    assert!(closed.unwrap().end.is_some());
    let deleted = broker.delete(&channel(1)).await.unwrap();
    assert!(deleted.is_some());
    log.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_format_2_is_converted_wherever_the_server_is_killed() {
    let (place, original) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ids = make(original.path()).await;
    go_back(original.path());
    assert_eq!(format(original.path()), 2);
    let restore = || {
        let directory = place.path().join("log");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let file = "events.redb";
        fs::copy(original.path().join(file), directory.join(file)).unwrap();
        directory
    };
    let output = place.path().join("output");
    // How long a start takes here, with the conversion.
    let (directory, since) = (restore(), Instant::now());
    let mut server = start(&directory, &output);
    while !fs::read_to_string(&output).unwrap().contains("http://") {
        assert!(server.try_wait().unwrap().is_none(), "the server has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    let whole = since.elapsed();
    for kill in 1..=KILLS {
        server.kill().unwrap();
        server.wait().unwrap();
        let found = format(&directory);
        assert!(found == 3 || (kill > 1 && found == 2), "{found}");
        verify(&directory, &ids).await;
        assert_eq!(format(&directory), 3);
        let directory = restore();
        server = start(&directory, &output);
        std::thread::sleep(whole * kill / KILLS);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    verify(&directory, &ids).await;
}
