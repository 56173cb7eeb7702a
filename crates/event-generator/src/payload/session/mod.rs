//! Simulated users with sessions, for streams that are worth analysing.
//!
//! A session is a view, further views and clicks, and a close. After a pause the user begins a new
//! session. A [`Simulation`] in virtual time decides which user acts next, and how: neither the
//! wall clock nor the rate plays a part. So the same seed and number of users give the same stream
//! of user, session, action and page, with the same times between the events.
//!
//! The timestamps follow virtual time too ([`VirtualClock`]): the first is when the first event was
//! due. So think times and lengths of sessions are in the data at any rate. By the constants of the
//! simulation, a session has 6.42 events and lasts 43 s, and a user makes 6.42 events in 343 s, or
//! 0.0187 per second. At 0.0187 times the number of users, virtual time runs as fast as the wall
//! clock. The documentation and `--help` state this number.

mod clock;
mod simulation;

use std::fmt::Write as _;

use self::{
    clock::{VirtualClock, format_timestamp},
    simulation::Simulation,
};
use super::{
    event::{DataFormat, EventSlot, NextEvent},
    event_type::AnyEventType,
    rng::seeded_rng,
    stamper::Stamper,
};

/// Highest number of users. A user takes a few hundred bytes.
pub(crate) const USERS_MAX: u32 = 1_000_000;

/// Events of simulated users.
#[derive(Debug)]
pub(crate) struct Session {
    simulation: Simulation,
    clock: VirtualClock,
    /// By action, in the order of [`Action`](simulation::Action).
    event_types: [AnyEventType; 3],
    stamper: Option<Stamper>,
}

impl Session {
    /// Users whose first sessions are spread over the length of a pause.
    pub(crate) fn new(users: u32, seed: Option<u64>, stamper: Option<Stamper>) -> Self {
        Self {
            simulation: Simulation::new(users, seeded_rng(seed)),
            clock: VirtualClock::default(),
            event_types: ["view", "click", "close"]
                .map(|event_type| event_type.parse().expect("a plain word is a type")),
            stamper,
        }
    }

    /// Writes the data of the next event to `data`.
    pub(super) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> NextEvent {
        let (now_us, user) = self.simulation.next_action();
        let timestamp = format_timestamp(self.clock.timestamp_us(now_us, slot.due_us));
        let (id, session, page) = (user.id, user.session, user.page);
        let event_type = self.event_types[user.last as usize].clone();
        write!(
            data,
            r#"{{"user_id":"{id}","session_id":"{session}","action":"{}","page":"{page}","timestamp":"{timestamp}""#,
            event_type.as_str()
        )
        .expect("a String accepts any text");
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
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use chrono::DateTime;
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
    fn the_same_seed_gives_the_same_stream_with_the_same_intervals_at_any_start() {
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

    /// The documentation and `--help` state this rate.
    #[test]
    fn a_user_makes_about_0_0187_events_per_second() {
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
    fn a_session_belongs_to_one_user_and_lasts_from_a_view_to_a_close() {
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
                // A click, and a close, are on the page that was viewed; a view goes to another
                // one.
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
    fn the_time_is_rfc_3339_and_the_stamp_is_last() {
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
