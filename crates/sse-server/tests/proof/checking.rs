//! Tests that the checker of the torture test finds each kind of violation and reports no others.

use sse_proto::{
    EventId,
    api::{Gap, GapReason, Lost},
    record::{Outcome, Received, Sent, Stamp},
};

use crate::checker::{Breach, Figures, Follows, Joined, Ledger, LostEvent};

/// Returns events 1 to 5 of one channel as acknowledged, with alternating types, and event 6 with
/// an unknown outcome.
fn sent() -> Vec<(&'static str, Sent)> {
    let sent = |sequence: u64, outcome| {
        let id = (outcome == Outcome::Acknowledged).then(|| format!("{sequence}-0"));
        let kind = if sequence % 2 == 1 { "view" } else { "click" };
        (
            kind,
            Sent {
                outcome,
                id,
                channel: "orders".to_owned(),
                publisher: "p".to_owned(),
                sequence,
            },
        )
    };
    let mut all: Vec<_> = (1..=5)
        .map(|sequence| sent(sequence, Outcome::Acknowledged))
        .collect();
    all.push(sent(6, Outcome::Unknown));
    all
}

fn got(sequence: u64) -> Received {
    got_as(sequence, &format!("{sequence}-0"))
}

fn got_as(sequence: u64, id: &str) -> Received {
    let stamp = Stamp {
        publisher: "p".to_owned(),
        sequence,
        sent_us: 0,
    };
    let event = if sequence % 2 == 1 { "view" } else { "click" };
    Received::Event {
        id: id.to_owned(),
        event: event.to_owned(),
        received_us: 0,
        stamp: Some(stamp),
    }
}

fn gap(id: &str, after: &str, oldest: Option<&str>) -> Received {
    let oldest = oldest.map(|id| id.parse::<EventId>().unwrap());
    let channel = "orders".parse().unwrap();
    Received::Gap {
        id: id.to_owned(),
        gap: Gap {
            channel,
            after: after.to_owned(),
            oldest,
            reason: GapReason::Trimmed,
            lost: None,
        },
    }
}

fn follows(kinds: &[&str], joined: Joined) -> Follows {
    let kinds = kinds.iter().map(ToString::to_string).collect();
    Follows {
        name: "l".to_owned(),
        channels: vec!["orders".parse().unwrap()],
        kinds,
        joined,
    }
}

/// Runs the checker on listeners that received these events.
fn check(listeners: Vec<(Follows, Vec<Received>)>) -> (Figures, Vec<Breach>) {
    let mut ledger = Ledger::default();
    for (kind, sent) in sent() {
        ledger.sent(kind, sent);
    }
    let seen: Vec<_> = listeners
        .into_iter()
        .map(|(follows, received)| ledger.follow(follows, received))
        .collect();
    let (figures, breaches) = ledger.conclude(&seen);
    (figures, breaches.kinds())
}

/// Runs the checker on one listener that follows everything.
fn breaches(received: Vec<Received>) -> Vec<Breach> {
    check(vec![(follows(&[], Joined::BeforeAll), received)]).1
}

#[test]
fn all_events_in_order_are_no_breach() {
    let (figures, found) = check(vec![(
        follows(&[], Joined::BeforeAll),
        (1..=5).map(got).collect(),
    )]);
    assert_eq!(found, []);
    let expected = Figures {
        acknowledged: 5,
        unknown: 1,
        deliveries: 5,
        due: 5,
        ..Figures::default()
    };
    assert_eq!(figures, expected);
}

#[test]
fn each_kind_of_breach_is_reported_as_that_kind() {
    assert_eq!(breaches([1, 2, 4, 5].map(got).to_vec()), [Breach::Lost]);
    assert_eq!(breaches(vec![]), [Breach::Lost]);
    assert_eq!(
        breaches([1, 2, 3, 4].map(got).to_vec()),
        [Breach::Lost],
        "the last event is missing"
    );
    assert_eq!(
        breaches([1, 2, 2, 3, 4, 5].map(got).to_vec()),
        [Breach::Repeated]
    );
    assert_eq!(
        breaches([1, 3, 2, 4, 5].map(got).to_vec()),
        [Breach::Disordered]
    );
    assert_eq!(
        breaches([1, 2, 3, 4, 5, 9].map(got).to_vec()),
        [Breach::Foreign]
    );
    let wrong_id = vec![got(1), got(2), got_as(3, "3-1"), got(4), got(5)];
    assert_eq!(breaches(wrong_id), [Breach::WrongId]);
    for id in ["", "x", "@3-0", "users=3-0"] {
        let no_id = vec![got(1), got(2), got_as(3, id), got(4), got(5)];
        assert_eq!(breaches(no_id), [Breach::Lost, Breach::WrongId], "{id:?}");
    }
}

#[test]
fn an_event_without_a_stamp_or_of_another_type_is_foreign() {
    let mut all: Vec<Received> = (1..=5).map(got).collect();
    all.push(Received::Event {
        id: "7-0".to_owned(),
        event: "view".to_owned(),
        received_us: 0,
        stamp: None,
    });
    assert_eq!(breaches(all), [Breach::Foreign]);
    let (_, found) = check(vec![(
        follows(&["view"], Joined::BeforeAll),
        [1, 2, 3, 5].map(got).to_vec(),
    )]);
    assert_eq!(found, [Breach::Foreign]);
}

#[test]
fn a_filtered_listener_is_owed_its_types_only() {
    let (figures, found) = check(vec![(
        follows(&["click"], Joined::BeforeAll),
        [2, 4].map(got).to_vec(),
    )]);
    assert_eq!((found, figures.due), (vec![], 2));
}

#[test]
fn an_event_of_unknown_outcome_reaches_all_listeners_once_or_none() {
    let all = || {
        (
            follows(&[], Joined::BeforeAll),
            (1..=6).map(got).collect::<Vec<_>>(),
        )
    };
    let without = || {
        (
            follows(&[], Joined::BeforeAll),
            (1..=5).map(got).collect::<Vec<_>>(),
        )
    };
    let (figures, found) = check(vec![all(), all()]);
    assert_eq!((found, figures.unknown_stored), (vec![], 1));
    assert_eq!(check(vec![without(), without()]).1, []);
    assert_eq!(check(vec![all(), without()]).1, [Breach::Uneven]);
    assert_eq!(check(vec![without(), all()]).1, [Breach::Uneven]);
    let twice = (
        follows(&[], Joined::BeforeAll),
        [1, 2, 3, 4, 5, 6, 6].map(got).to_vec(),
    );
    assert_eq!(check(vec![twice]).1, [Breach::Repeated]);
    let elsewhere = (
        follows(&[], Joined::BeforeAll),
        vec![got(1), got(2), got(3), got(4), got(5), got_as(6, "6-1")],
    );
    assert_eq!(check(vec![all(), elsewhere]).1, [Breach::WrongId]);
    // The event is a click, so listeners that follow views are not owed it.
    let clicks = (
        follows(&["view"], Joined::BeforeAll),
        [1, 3, 5].map(got).to_vec(),
    );
    assert_eq!(check(vec![all(), clicks]).1, []);
}

#[test]
fn only_events_inside_a_reported_gap_are_excused() {
    let with_gap = |gap: Received| vec![got(1), gap, got(4), got(5)];
    let (figures, found) = check(vec![(
        follows(&[], Joined::BeforeAll),
        with_gap(gap("@4-0", "1-0", Some("4-0"))),
    )]);
    assert_eq!((found, figures.gaps, figures.in_gaps), (vec![], 1, 2));
    assert_eq!(
        breaches(with_gap(gap("@3-0", "1-0", Some("3-0")))),
        [Breach::Lost],
        "the gap reports that 3 is kept"
    );
    assert_eq!(
        breaches(with_gap(gap("@4-0", "2-0", Some("4-0")))),
        [Breach::Lost],
        "2 is before the gap"
    );
    assert_eq!(
        breaches(vec![got(1), gap("5-0", "1-0", None)]),
        [],
        "no event is kept before the gap's position"
    );
    assert_eq!(
        breaches(vec![got(1), gap("4-0", "1-0", None)]),
        [Breach::Lost]
    );
    assert_eq!(breaches(with_gap(gap("@4-0", "garbage", Some("4-0")))), []);
    let of_another = Gap {
        channel: "users".parse().unwrap(),
        after: "1-0".to_owned(),
        oldest: Some(EventId::new(4, 0)),
        reason: GapReason::Trimmed,
        lost: None,
    };
    assert_eq!(
        breaches(with_gap(Received::Gap {
            id: "@4-0".to_owned(),
            gap: of_another
        })),
        [Breach::Lost]
    );
}

/// Returns a gap which reports that all events between these ids were lost.
fn gap_of_lost(after: &str, before: &str) -> Received {
    let (id, lost) = (
        before.to_owned(),
        Lost {
            after: after.parse().unwrap(),
            before: before.parse().unwrap(),
        },
    );
    let (channel, oldest) = ("orders".parse().unwrap(), Some(lost.before));
    let gap = Gap {
        channel,
        after: after.to_owned(),
        oldest,
        reason: GapReason::LostTail,
        lost: Some(lost),
    };
    Received::Gap { id, gap }
}

/// Runs the checker on a log that has lost these events, with these ids.
fn check_lost(lost: &[(u64, &str)], received: Vec<Received>) -> (Figures, Vec<Breach>) {
    check_lost_from(u64::MAX, lost, received)
}

/// The same, if events with this sequence number and later ones may have been stored late.
fn check_lost_from(
    late: u64,
    lost: &[(u64, &str)],
    received: Vec<Received>,
) -> (Figures, Vec<Breach>) {
    let mut ledger = Ledger::default();
    for (kind, mut sent) in sent() {
        // The publisher does not know this id, as for an event of a batch.
        sent.id = sent.id.filter(|_| sent.sequence != 4);
        ledger.sent(kind, sent);
    }
    for (sequence, id) in lost {
        let (channel, id) = ("orders".parse().unwrap(), id.parse().unwrap());
        ledger.lost(LostEvent {
            channel,
            id,
            publisher: "p".to_owned(),
            sequence: *sequence,
            is_late: *sequence >= late,
        });
    }
    let seen = ledger.follow(follows(&[], Joined::BeforeAll), received);
    let (figures, breaches) = ledger.conclude(&[seen]);
    (figures, breaches.kinds())
}

#[test]
fn a_gap_must_report_lost_events_and_excuses_no_others() {
    let lost = [(3, "3-0"), (4, "4-0"), (6, "4-5")];
    let with_gap = |before: &str| vec![got(1), got(2), gap_of_lost("2-0", before), got(5)];
    let (figures, found) = check_lost(&lost, with_gap("4-9"));
    assert_eq!(
        (found, figures.lost, figures.in_gaps, figures.unknown_stored),
        (vec![], 2, 3, 1)
    );
    // A listener may have received some events before the log lost them.
    let seen = vec![got(1), got(2), got(3), gap_of_lost("2-0", "4-9"), got(5)];
    assert_eq!(check_lost(&lost, seen).1, []);
    assert_eq!(
        check_lost(&lost, vec![got(1), got(2), got(5)]).1,
        [Breach::Lost, Breach::Uneven]
    );
    assert_eq!(
        check_lost(&lost, with_gap("4-1")).1,
        [Breach::Uneven],
        "the gap does not cover the last lost event"
    );
    assert_eq!(
        check_lost(&lost[1..], with_gap("4-9")).1,
        [Breach::Lost],
        "3 is still in the log"
    );
    let beside = vec![got(1), gap_of_lost("1-0", "4-9"), got(5)];
    assert_eq!(
        check_lost(&lost, beside).1,
        [Breach::Lost],
        "2 is still in the log"
    );
    assert_eq!(
        check_lost(&[(3, "3-1"), (4, "4-0"), (6, "4-5")], with_gap("4-9")).1,
        [Breach::WrongId]
    );
    assert_eq!(
        check_lost(
            &[(3, "3-0"), (4, "4-0"), (6, "4-5"), (7, "4-6")],
            with_gap("4-9")
        )
        .1,
        [Breach::Foreign]
    );
}

#[test]
fn an_event_that_was_stored_late_needs_a_gap_only_if_it_was_acknowledged() {
    let lost = [(3, "3-0"), (4, "4-0"), (6, "4-5")];
    let without_gap = || vec![got(1), got(2), got(5)];
    // The publisher has no acknowledgement of 6, and one of 4.
    assert_eq!(check_lost_from(6, &lost, without_gap()).1, [Breach::Lost]);
    let gap = vec![got(1), got(2), gap_of_lost("2-0", "4-1"), got(5)];
    assert_eq!(check_lost_from(6, &lost, gap).1, []);
    assert_eq!(check_lost_from(0, &lost, without_gap()).1, [Breach::Lost]);
}

#[test]
fn a_late_listener_is_owed_events_after_its_first_position() {
    let after = |cursor: &str| Joined::After(cursor.parse().unwrap());
    let late = |joined: Joined, from: u64| {
        check(vec![(follows(&[], joined), (from..=5).map(got).collect())]).1
    };
    assert_eq!(late(after("2-0"), 3), []);
    assert_eq!(late(after("2-0"), 4), [Breach::Lost]);
    assert_eq!(late(after("@3-0"), 3), []);
    assert_eq!(late(after("users=9-0,orders=2-0"), 3), []);
    assert_eq!(late(after("users=9-0,orders=2-0"), 4), [Breach::Lost]);
}

#[test]
fn a_composite_id_counts_for_the_channel_of_its_event() {
    let ids =
        [1, 2, 3, 4, 5].map(|sequence| got_as(sequence, &format!("orders={sequence}-0,users=7-0")));
    assert_eq!(breaches(ids.to_vec()), []);
}

#[test]
fn a_batch_event_takes_its_id_from_listeners_and_is_owed() {
    let check = |received: Vec<Received>| {
        let mut ledger = Ledger::default();
        for (kind, mut sent) in sent() {
            sent.id = sent.id.filter(|_| sent.sequence != 3);
            ledger.sent(kind, sent);
        }
        let seen = ledger.follow(follows(&[], Joined::BeforeAll), received);
        ledger.conclude(&[seen]).1.kinds()
    };
    assert_eq!(check((1..=5).map(got).collect()), []);
    assert_eq!(check([1, 2, 4, 5].map(got).to_vec()), [Breach::Lost]);
}

#[test]
fn an_event_sent_after_a_response_has_a_greater_id() {
    let mut ledger = Ledger::default();
    for (kind, mut sent) in sent() {
        sent.id = match sent.sequence {
            3 => Some("4-0".to_owned()),
            4 => Some("3-0".to_owned()),
            _ => sent.id,
        };
        ledger.sent(kind, sent);
    }
    assert_eq!(ledger.conclude(&[]).1.kinds(), [Breach::Disordered]);
}

#[test]
fn two_events_with_one_id_are_found() {
    let mut ledger = Ledger::default();
    for (kind, mut sent) in sent() {
        if sent.sequence == 3 {
            sent.id = Some("2-0".to_owned());
        }
        ledger.sent(kind, sent);
    }
    assert_eq!(
        ledger.conclude(&[]).1.kinds(),
        [Breach::Disordered, Breach::WrongId]
    );
}

#[test]
fn history_may_restart_only_after_a_loss_and_a_gap() {
    // The listener saw event 5, which was then lost. A node that does not know the lost id restarts
    // at the oldest event.
    let back = || gap("@2-0", "5-0", Some("2-0"));
    let again = || {
        vec![
            got(1),
            got(2),
            got(3),
            got(4),
            got(5),
            back(),
            got(2),
            got(3),
            got(4),
        ]
    };
    let (figures, found) = check_lost(&[(5, "5-0")], again());
    assert_eq!((found, figures.rounds), (vec![], 1));
    assert_eq!(check_lost(&[], again()).1, [Breach::Repeated]);
    let twice = vec![
        got(1),
        got(2),
        got(3),
        got(4),
        got(5),
        back(),
        got(2),
        got(3),
        got(3),
        got(4),
    ];
    assert_eq!(check_lost(&[(5, "5-0")], twice).1, [Breach::Repeated]);
    let swapped = vec![
        got(1),
        got(2),
        got(3),
        got(4),
        got(5),
        back(),
        got(2),
        got(4),
        got(3),
    ];
    assert_eq!(check_lost(&[(5, "5-0")], swapped).1, [Breach::Disordered]);
}
