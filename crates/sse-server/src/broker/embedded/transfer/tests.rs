//! Tests of lists and pages on a log in memory.

use std::{num::NonZeroUsize, time::Duration};

use redb::ReadableTable as _;
use sse_proto::EventId;

use super::{
    super::{
        record::event_key,
        tables::EVENTS,
        test_log::{TestLog, item},
    },
    read_list, read_source_page,
};
use crate::broker::transfer::{RECORDS_MAX, SourceChannel, SourcePage};

/// The time of the log in these tests.
const NOW_MS: u64 = 1000;

fn large_log() -> TestLog {
    let mut log = TestLog::new();
    log.retention.events_max = NonZeroUsize::new(10_000).unwrap();
    log.retention.keys.keys_max = 10_000;
    log.retention.keys.window = Duration::from_hours(1);
    log
}

fn page(log: &TestLog, channel: &str, after: EventId) -> SourcePage {
    let channel = channel.parse().unwrap();
    let read = |snapshot: &_| read_source_page(snapshot, &channel, after, NOW_MS);
    log.store.read(read).unwrap()
}

fn names(log: &TestLog, since: Option<EventId>) -> Vec<String> {
    let list = log
        .store
        .read(|snapshot| read_list(snapshot, None, since))
        .unwrap();
    assert_eq!(list.next, None);
    let name = |listed: &SourceChannel| listed.channel.to_string();
    list.channels.iter().map(name).collect()
}

#[test]
fn each_page_has_the_keys_of_its_records() {
    let mut log = large_log();
    let items: Vec<_> = (0..2500).map(|key| item(key, "x")).collect();
    log.append_items("a", &items, NOW_MS, 0).unwrap();
    let (mut after, mut pages, mut records, mut keys) = (EventId::ZERO, 0, 0, 0);
    loop {
        let page = page(&log, "a", after);
        assert!(page.continues && page.records.len() <= RECORDS_MAX);
        assert!(
            page.records
                .iter()
                .all(|record| after < record.id && record.id <= page.end)
        );
        let ids: Vec<EventId> = page.records.iter().map(|record| record.id).collect();
        let of_keys: Vec<EventId> = page.keys.iter().map(|key| key.last).collect();
        assert_eq!(ids, of_keys);
        (pages, records, keys) = (
            pages + 1,
            records + page.records.len(),
            keys + page.keys.len(),
        );
        if !page.more {
            assert_eq!(page.channel.state.unwrap().last, page.end);
            break;
        }
        after = page.end;
    }
    assert_eq!((pages, records, keys), (3, 2500, 2500));
}

#[test]
fn keys_of_trimmed_records_come_first_in_pages_that_have_no_record() {
    let mut log = large_log();
    log.retention.events_max = NonZeroUsize::new(5).unwrap();
    let items: Vec<_> = (0..1500).map(|key| item(key, "x")).collect();
    log.append_items("a", &items, NOW_MS, 10_000).unwrap();
    let first = page(&log, "a", EventId::ZERO);
    assert!(first.continues && first.more && first.records.is_empty());
    assert_eq!(first.keys.len(), RECORDS_MAX + 1);
    let last = page(&log, "a", first.end);
    assert_eq!(
        (last.records.len(), first.keys.len() + last.keys.len()),
        (5, 1500)
    );
    assert!(last.continues && !last.more);
    let state = last.channel.state.unwrap();
    assert!(
        state.trimmed < state.oldest && state.records == 5,
        "{state:?}"
    );
}

#[test]
fn an_id_of_another_log_does_not_continue() {
    let mut log = large_log();
    log.append("a", 3, NOW_MS, 0).unwrap();
    let of_log = log.row("a").unwrap();
    assert!(page(&log, "a", of_log.oldest).continues);
    assert!(page(&log, "a", of_log.last).continues);
    let beyond = of_log.last.next().unwrap();
    let before = of_log.oldest.before();
    assert!(!page(&log, "a", beyond).continues);
    assert!(!page(&log, "a", before).continues);
}

#[test]
fn a_damaged_record_has_a_place_of_its_own() {
    let mut log = large_log();
    log.append("a", 4, NOW_MS, 0).unwrap();
    log.is_damaged = true;
    let row = log.row("a").unwrap();
    let missing = row.oldest.next().unwrap();
    log.store
        .write(|transaction| {
            let mut events = transaction.open_table(EVENTS)?;
            assert!(events.get(event_key(row.number, missing))?.is_some());
            events.remove(event_key(row.number, missing))?;
            events.insert(event_key(row.number, row.last), b"nonsense".as_slice())?;
            Ok(())
        })
        .unwrap();
    let page = page(&log, "a", EventId::ZERO);
    let holes: Vec<_> = page
        .records
        .iter()
        .filter(|record| record.event.is_none())
        .collect();
    assert_eq!(page.records.len(), 4);
    assert_eq!((holes[0].id, holes[1].id), (missing, row.last));
    assert!(!page.more && page.end == row.last);
}

#[test]
fn a_list_has_forgotten_channels_and_can_be_limited_to_those_that_changed() {
    let mut log = TestLog::new();
    log.append("b", 1, 1000, 100).unwrap();
    log.append("a", 1, 1500, 100).unwrap();
    let before = log.row("a").unwrap().last;
    // Both are too old now. The one that is idle for longest makes room.
    log.append("c", 1, 9000, 100).unwrap();
    assert_eq!(names(&log, None), ["a", "b", "c"]);
    assert_eq!(names(&log, Some(before)), ["c"]);
    assert_eq!(
        names(&log, Some(log.row("c").unwrap().last)),
        Vec::<String>::new()
    );
    let forgotten = page(&log, "b", EventId::ZERO);
    let state = forgotten.channel.state.clone().unwrap();
    assert_eq!((state.trimmed, state.records), (Some(state.last), 0));
    assert!(!forgotten.more && forgotten.end == state.last);
}
