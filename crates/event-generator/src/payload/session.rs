//! Simulated users with sessions, for streams that are worth analysing.
//!
//! Each user comes, views pages, clicks on some of them, closes the last one, and comes back after a pause with a new
//! session. Who does what next is decided by a simulation in virtual time: a heap of users by when each acts again. The
//! wall clock and the rate have no part in it, so the same seed and number of users give the same stream of user,
//! session, action and page; only the timestamps say when an event was due in this run.

use std::{cmp::Reverse, collections::BinaryHeap, fmt::Write as _};

use chrono::{DateTime, SecondsFormat};
use rand::{Rng, RngExt as _, rngs::Xoshiro256PlusPlus};
use sse_proto::EventType;
use uuid::Uuid;

use super::{Drawn, Form, Moment, Stamper, rng};

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

/// All users of a run.
#[derive(Debug)]
pub(crate) struct Session {
    users: Vec<User>,
    /// Virtual milliseconds, and the place in `users`: the next to act is on top.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    rng: Xoshiro256PlusPlus,
    kinds: [EventType; 3],
    stamper: Option<Stamper>,
}

impl Session {
    /// The first users come one after the other, spread over a pause.
    pub(crate) fn new(users: u32, seed: Option<u64>, stamper: Option<Stamper>) -> Self {
        let mut rng = rng(seed);
        let newcomer = |rng: &mut _| User { id: uuid(rng), session: Uuid::nil(), last: Action::Close, page: "/" };
        let users: Vec<User> = (0..users).map(|_| newcomer(&mut rng)).collect();
        let agenda = (0..users.len()).map(|place| Reverse((exponential_ms(&mut rng, PAUSE_MS), place))).collect();
        let kinds = ["view", "click", "close"].map(|kind| kind.parse().expect("a plain word is a type"));
        Self { users, agenda, rng, kinds, stamper }
    }

    /// The next event.
    pub(super) fn draw(&mut self, moment: Moment, data: &mut String) -> Drawn {
        let (place, action) = self.act();
        let User { id, session, page, .. } = &self.users[place];
        let kind = self.kinds[action as usize].clone();
        let timestamp = timestamp(moment.due_us);
        write!(
            data,
            r#"{{"user_id":"{id}","session_id":"{session}","action":"{kind}","page":"{page}","timestamp":"{timestamp}""#
        )
        .expect("a String takes any text");
        if let Some(stamper) = &self.stamper {
            data.push(',');
            stamper.write(moment, data);
        }
        data.push('}');
        Drawn { kind, form: Form::Json }
    }

    /// Lets the next user act: their place, and what they do.
    fn act(&mut self) -> (usize, Action) {
        let Reverse((now, place)) = self.agenda.pop().expect("there is at least one user, and each acts again");
        let (user, rng) = (&mut self.users[place], &mut self.rng);
        let action = next_action(user.last, rng);
        if user.last == Action::Close {
            user.session = uuid(rng);
        }
        if action == Action::View {
            user.page = page(rng);
        }
        user.last = action;
        let mean = if action == Action::Close { PAUSE_MS } else { THINK_MS };
        // At least a millisecond: a user does one thing at a time.
        self.agenda.push(Reverse((now + 1 + exponential_ms(rng, mean), place)));
        (place, action)
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

fn page(rng: &mut impl Rng) -> &'static str {
    let mut chance: f64 = rng.random();
    for (page, share) in PAGES {
        if chance < share {
            return page;
        }
        chance -= share;
    }
    PAGES[0].0
}

fn uuid(rng: &mut impl Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

/// Whole milliseconds, so that the last bit of a logarithm, which differs between machines, does not matter.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and below 2^40")]
fn exponential_ms(rng: &mut impl Rng, mean: f64) -> u64 {
    (-(1.0 - rng.random::<f64>()).ln() * mean).round() as u64
}

/// RFC 3339, UTC, microseconds.
fn timestamp(unix_us: u64) -> String {
    let time = i64::try_from(unix_us).ok().and_then(DateTime::from_timestamp_micros).unwrap_or(DateTime::UNIX_EPOCH);
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::Deserialize;
    use sse_proto::record::Stamp;

    use super::*;
    use crate::lanes::Lane;

    #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
    struct Body {
        user_id: String,
        session_id: String,
        action: String,
        page: String,
        timestamp: String,
    }

    fn stream(users: u32, seed: u64, due_us: u64, count: u64) -> Vec<Body> {
        let mut session = Session::new(users, Some(seed), None);
        let mut data = String::new();
        let mut body = |sequence| {
            data.clear();
            let drawn = session.draw(Moment { lane: Lane { number: 0, next: sequence }, due_us }, &mut data);
            let body: Body = serde_json::from_str(&data).unwrap();
            assert_eq!(body.action, drawn.kind.as_str());
            body
        };
        (0..count).map(&mut body).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_stream_whatever_the_time() {
        let without_time =
            |bodies: Vec<Body>| bodies.into_iter().map(|body| Body { timestamp: String::new(), ..body }).collect();
        let [a, b, c]: [Vec<Body>; 3] =
            [stream(10, 7, 0, 500), stream(10, 7, 1_795_523_086_339_397, 500), stream(10, 8, 0, 500)].map(without_time);
        assert_eq!(a, b);
        assert_ne!(a, c);
    }

    #[test]
    fn a_session_is_one_users_and_goes_from_a_view_to_a_close() {
        let mut sessions: BTreeMap<String, Vec<Body>> = BTreeMap::new();
        for body in stream(20, 1, 0, 20_000) {
            sessions.entry(body.session_id.clone()).or_default().push(body);
        }
        let mut closed = 0;
        for events in sessions.values() {
            assert_eq!(events[0].action, "view");
            assert!(events.iter().all(|event| event.user_id == events[0].user_id));
            let close = events.iter().position(|event| event.action == "close");
            closed += usize::from(close.is_some_and(|at| at + 1 == events.len()));
            for pair in events.windows(2) {
                assert_ne!(pair[0].action, "close");
                // A click, and a close, are on the page that was viewed.
                assert!(pair[1].action == "view" || pair[1].page == pair[0].page, "{pair:?}");
            }
        }
        let users: BTreeSet<&str> = sessions.values().map(|events| events[0].user_id.as_str()).collect();
        // All but the sessions that were open at the end.
        assert!(users.len() == 20 && sessions.len() > 1000 && closed + 20 >= sessions.len(), "{closed}");
    }

    #[test]
    fn users_act_side_by_side() {
        let bodies = stream(50, 2, 0, 1000);
        let changes = bodies.windows(2).filter(|pair| pair[0].user_id != pair[1].user_id).count();
        assert!(changes > 500, "{changes}");
    }

    #[test]
    fn the_time_is_rfc_3339_and_the_stamp_comes_last() {
        let mut data = String::new();
        let mut session = Session::new(1, Some(1), Some(Stamper::new()));
        session.draw(Moment { lane: Lane { number: 0, next: 3 }, due_us: 1_795_523_086_000_007 }, &mut data);
        assert!(
            data.contains(r#""page":"#) && data.contains(r#""timestamp":"2026-11-24T12:24:46.000007Z","publisher":""#),
            "{data}"
        );
        assert_eq!(serde_json::from_str::<Stamp>(&data).unwrap().sequence, 3);
    }
}
