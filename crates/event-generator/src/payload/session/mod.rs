//! Simulated users with sessions, for streams that are worth analysing.
//!
//! Each user comes, views pages, clicks on some of them, closes the last one, and comes back after a pause with a new
//! session. Who does what next, and when, is decided by a simulation in virtual time: a heap of users by when each acts
//! again. The wall clock and the rate have no part in it, so the same seed and number of users give the same stream of
//! user, session, action and page, with the same times between them.
//!
//! The timestamps are the simulation's: the first is when the first event was due, and from there they go on by virtual
//! time, so think times and lengths of sessions are in the data however fast it is sent. The chances and times below
//! make a session 6.42 events and 43 s long, and so a user 6.42 events in 343 s: 0.0187 a second. At that rate times
//! the users the two clocks go alike; the README and `--help` say so.

use std::{cmp::Reverse, collections::BinaryHeap, fmt::Write as _};

use chrono::{DateTime, SecondsFormat};
use rand::{Rng, RngExt as _, rngs::Xoshiro256PlusPlus};
use uuid::Uuid;

use super::{
    event::{DataFormat, EventSlot, NextEvent},
    event_type::AnyEventType,
    rng::seeded_rng,
    stamper::Stamper,
};

/// More users than this are refused: each takes some hundred bytes.
pub(crate) const USERS_MAX: u32 = 1_000_000;

/// Mean time between two actions of a session.
const THINK_MS: f64 = 8_000.0;
/// Mean time between two sessions of a user.
const PAUSE_MS: f64 = 300_000.0;
/// After a view: the chance of a click on that page, and of closing it. Else another page is viewed.
const CLICK: f64 = 0.45;
const CLOSE: f64 = 0.2;
/// After a click: the chance that the user leaves. Else a page is viewed.
const CLOSE_AFTER_CLICK: f64 = 0.15;

/// The pages, each with the chance that it is chosen.
const PAGES: [(&str, f64); 8] = [
    ("/", 0.3),
    ("/products", 0.2),
    ("/products/1", 0.15),
    ("/products/2", 0.1),
    ("/search", 0.1),
    ("/cart", 0.07),
    ("/about", 0.05),
    ("/checkout", 0.03),
];

/// What a user does. Each is an event's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    View,
    Click,
    Close,
}

/// A user, and where they are.
#[derive(Debug)]
struct User {
    id: Uuid,
    session: Uuid,
    /// What they did last; `Close` before the first session.
    last: Action,
    page: &'static str,
}

/// Virtual time as timestamps.
#[derive(Debug, Default)]
struct VirtualClock {
    /// When the first event was due, and what virtual time it was then.
    start: Option<(u64, u64)>,
    last_us: u64,
}

/// All users of a run.
#[derive(Debug)]
pub(crate) struct Session {
    users: Vec<User>,
    /// Virtual microseconds, and the place in `users`: the next to act is on top.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    clock: VirtualClock,
    rng: Xoshiro256PlusPlus,
    event_types: [AnyEventType; 3],
    stamper: Option<Stamper>,
}

impl Session {
    /// The first users come one after the other, spread over a pause.
    pub(crate) fn new(users: u32, seed: Option<u64>, stamper: Option<Stamper>) -> Self {
        let mut rng = seeded_rng(seed);
        let newcomer = |rng: &mut _| User {
            id: random_uuid(rng),
            session: Uuid::nil(),
            last: Action::Close,
            page: "/",
        };
        let users: Vec<User> = (0..users).map(|_| newcomer(&mut rng)).collect();
        let agenda = (0..users.len())
            .map(|place| Reverse((exponential_us(&mut rng, PAUSE_MS), place)))
            .collect();
        let event_types = ["view", "click", "close"]
            .map(|event_type| event_type.parse().expect("a plain word is a type"));
        Self {
            users,
            agenda,
            clock: VirtualClock::default(),
            rng,
            event_types,
            stamper,
        }
    }

    /// The next event.
    pub(super) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> NextEvent {
        let (now, place, action) = self.simulate_action();
        let timestamp = format_timestamp(self.clock.timestamp_us(now, slot.due_us));
        let User {
            id, session, page, ..
        } = &self.users[place];
        let event_type = self.event_types[action as usize].clone();
        write!(
            data,
            r#"{{"user_id":"{id}","session_id":"{session}","action":"{}","page":"{page}","timestamp":"{timestamp}""#,
            event_type.as_str()
        )
        .expect("a String takes any text");
        if let Some(stamper) = &self.stamper {
            data.push(',');
            stamper.write(slot, data);
        }
        data.push('}');
        NextEvent {
            event_type,
            format: DataFormat::Json,
        }
    }

    /// Lets the next user act: when in virtual time, their place, and what they do.
    fn simulate_action(&mut self) -> (u64, usize, Action) {
        let Reverse((now, place)) = self
            .agenda
            .pop()
            .expect("there is at least one user, and each acts again");
        let (user, rng) = (&mut self.users[place], &mut self.rng);
        let action = next_action(user.last, rng);
        if action == Action::View {
            // Whoever comes may come to any page; from there it goes to another one.
            let from = (user.last != Action::Close).then_some(user.page);
            user.page = choose_page(rng, from);
        }
        if user.last == Action::Close {
            user.session = random_uuid(rng);
        }
        user.last = action;
        let mean = if action == Action::Close {
            PAUSE_MS
        } else {
            THINK_MS
        };
        // At least a millisecond: a user does one thing at a time.
        self.agenda
            .push(Reverse((now + 1000 + exponential_us(rng, mean), place)));
        (now, place, action)
    }
}

impl VirtualClock {
    /// The time of an event, in microseconds since the Unix epoch: later than that of every event before it.
    fn timestamp_us(&mut self, virtual_us: u64, due_us: u64) -> u64 {
        let (start_us, start) = *self.start.get_or_insert((due_us, virtual_us));
        let time = start_us.saturating_add(virtual_us.saturating_sub(start));
        // Two users may act in the same microsecond.
        self.last_us = time.max(self.last_us.saturating_add(1));
        self.last_us
    }
}

fn next_action(last: Action, rng: &mut impl Rng) -> Action {
    let chance: f64 = rng.random();
    match last {
        Action::View if chance < CLICK => Action::Click,
        Action::View if chance < CLICK + CLOSE => Action::Close,
        Action::Click if chance < CLOSE_AFTER_CLICK => Action::Close,
        _ => Action::View,
    }
}

/// A page other than that which is left.
fn choose_page(rng: &mut impl Rng, from: Option<&str>) -> &'static str {
    let others = || PAGES.into_iter().filter(|(page, _)| Some(*page) != from);
    let mut chance = rng.random::<f64>() * others().map(|(_, share)| share).sum::<f64>();
    let chosen = others().find(|(_, share)| {
        chance -= share;
        chance < 0.0
    });
    // Rounding may leave the last one out.
    chosen
        .or_else(|| others().next_back())
        .map_or(PAGES[0].0, |(page, _)| page)
}

fn random_uuid(rng: &mut impl Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

/// Whole milliseconds, so that the last bit of a logarithm, which differs between machines, does not matter; and some
/// microseconds, so that not all users act at the ticks of a clock.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and below 2^40"
)]
fn exponential_us(rng: &mut impl Rng, mean_ms: f64) -> u64 {
    let whole_ms = (-(1.0 - rng.random::<f64>()).ln() * mean_ms) as u64;
    whole_ms * 1000 + rng.random_range(0..1000)
}

/// RFC 3339, UTC, microseconds.
fn format_timestamp(unix_us: u64) -> String {
    let time = i64::try_from(unix_us)
        .ok()
        .and_then(DateTime::from_timestamp_micros)
        .unwrap_or(DateTime::UNIX_EPOCH);
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::Deserialize;
    use sse_proto::record::Stamp;

    use super::*;
    use crate::payload::lane::Lane;

    #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
    struct SessionData {
        user_id: String,
        session_id: String,
        action: String,
        page: String,
        timestamp: String,
    }

    fn stream(users: u32, seed: u64, due_us: u64, count: u64) -> Vec<SessionData> {
        let mut session = Session::new(users, Some(seed), None);
        let mut data = String::new();
        let mut body = |sequence| {
            data.clear();
            let event = session.next_event(
                EventSlot {
                    lane: Lane {
                        number: 0,
                        next: sequence,
                    },
                    due_us,
                },
                &mut data,
            );
            let body: SessionData = serde_json::from_str(&data).unwrap();
            assert_eq!(body.action, event.event_type.as_str());
            body
        };
        (0..count).map(&mut body).collect()
    }

    impl SessionData {
        fn timestamp_us(&self) -> i64 {
            DateTime::parse_from_rfc3339(&self.timestamp)
                .unwrap()
                .timestamp_micros()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_stream_with_the_same_times_between_whenever_it_starts() {
        const START: i64 = 1_795_523_086_339_397;
        let since = |start: i64, bodies: Vec<SessionData>| {
            let plain = |body: SessionData| {
                (
                    body.timestamp_us() - start,
                    SessionData {
                        timestamp: String::new(),
                        ..body
                    },
                )
            };
            bodies.into_iter().map(plain).collect::<Vec<_>>()
        };
        let a = since(1, stream(10, 7, 1, 500));
        assert_eq!(a[0].0, 0, "the first is when the run began");
        assert_eq!(a, since(START, stream(10, 7, START.unsigned_abs(), 500)));
        assert_ne!(a, since(1, stream(10, 8, 1, 500)));
    }

    #[test]
    fn timestamps_grow_strictly_however_many_users_there_are() {
        for pair in stream(100_000, 3, 0, 20_000).windows(2) {
            assert!(pair[0].timestamp_us() < pair[1].timestamp_us(), "{pair:?}");
        }
        let mut clock = VirtualClock::default();
        assert_eq!(
            [7, 7, 7, 8, 20].map(|now| clock.timestamp_us(now, 100)),
            [100, 101, 102, 103, 113]
        );
    }

    /// What the README and the help say.
    #[test]
    fn a_user_makes_about_0_0187_events_a_second() {
        let bodies = stream(1000, 4, 0, 300_000);
        // Without the first sessions: all users begin with a pause.
        let (from, to) = (
            bodies[20_000].timestamp_us(),
            bodies[299_999].timestamp_us(),
        );
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let seconds = (to - from) as f64 / 1e6;
        let rate = 279_999.0 / seconds / 1000.0;
        assert!((0.0183..0.0191).contains(&rate), "{rate}");
    }

    #[test]
    fn a_session_is_one_users_and_goes_from_a_view_to_a_close() {
        let mut sessions: BTreeMap<String, Vec<SessionData>> = BTreeMap::new();
        for body in stream(20, 1, 0, 20_000) {
            sessions
                .entry(body.session_id.clone())
                .or_default()
                .push(body);
        }
        let mut closed = 0;
        for events in sessions.values() {
            assert_eq!(events[0].action, "view");
            assert!(
                events
                    .iter()
                    .all(|event| event.user_id == events[0].user_id)
            );
            let close = events.iter().position(|event| event.action == "close");
            closed += usize::from(close.is_some_and(|at| at + 1 == events.len()));
            for pair in events.windows(2) {
                assert_ne!(pair[0].action, "close");
                // A click, and a close, are on the page that was viewed; a view goes to another one.
                assert_eq!(
                    pair[1].action == "view",
                    pair[1].page != pair[0].page,
                    "{pair:?}"
                );
                // Think times.
                assert!(
                    pair[1].timestamp_us() >= pair[0].timestamp_us() + 1000,
                    "{pair:?}"
                );
            }
        }
        let users: BTreeSet<&str> = sessions
            .values()
            .map(|events| events[0].user_id.as_str())
            .collect();
        // All but the sessions that were open at the end.
        assert!(
            users.len() == 20 && sessions.len() > 1000 && closed + 20 >= sessions.len(),
            "{closed}"
        );
    }

    #[test]
    fn users_act_side_by_side() {
        let bodies = stream(50, 2, 0, 1000);
        let changes = bodies
            .windows(2)
            .filter(|pair| pair[0].user_id != pair[1].user_id)
            .count();
        assert!(changes > 500, "{changes}");
    }

    #[test]
    fn the_time_is_rfc_3339_and_the_stamp_comes_last() {
        let mut data = String::new();
        let mut session = Session::new(1, Some(1), Some(Stamper::new()));
        session.next_event(
            EventSlot {
                lane: Lane { number: 0, next: 3 },
                due_us: 1_795_523_086_000_007,
            },
            &mut data,
        );
        assert!(
            data.contains(r#""page":"#)
                && data.contains(r#""timestamp":"2026-11-24T12:24:46.000007Z","publisher":""#),
            "{data}"
        );
        assert_eq!(serde_json::from_str::<Stamp>(&data).unwrap().sequence, 3);
    }
}
