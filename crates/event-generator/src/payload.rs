//! What is sent: which user takes which action, and the JSON that says so.
//!
//! The body is the tutorial's string. A recorded run sends an object that carries it together with a [`Stamp`], by
//! which the listener's record names the event.

use chrono::{DateTime, Local};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde::Serialize;
use sse_proto::record::Stamp;
use uuid::Uuid;

use crate::actions::Actions;

/// A user takes an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    /// Its place in [`Actions::names`].
    pub(crate) action: usize,
    /// Who: a random uuid, version 4.
    pub(crate) user_id: Uuid,
}

/// Acts without end. The same seed and the same actions give the same acts again.
#[derive(Debug)]
pub(crate) struct Acts {
    actions: Actions,
    // Named, unlike `StdRng`: its numbers stay the same with the next release of `rand`.
    rng: Xoshiro256PlusPlus,
}

impl Acts {
    /// Without a seed, acts that nobody can foretell.
    pub(crate) fn new(actions: Actions, seed: Option<u64>) -> Self {
        Self { actions, rng: seed.map_or_else(rand::make_rng, Xoshiro256PlusPlus::seed_from_u64) }
    }
}

impl Iterator for Acts {
    type Item = Act;

    fn next(&mut self) -> Option<Act> {
        let action = self.actions.choose(&mut self.rng);
        let user_id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
        Some(Act { action, user_id })
    }
}

/// Which body the events have.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// The tutorial's JSON string.
    Tutorial,
    /// A JSON object with that string and a [`Stamp`] of this publisher.
    Stamped {
        /// Names the run.
        publisher: String,
    },
}

#[derive(Serialize)]
struct StampedBody {
    message: String,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Payload {
    /// The JSON of the event with this number, sent `now`.
    pub(crate) fn body(&self, user_id: Uuid, sequence: u64, now: DateTime<Local>) -> String {
        let message = tutorial_text(user_id, now);
        match self {
            Self::Tutorial => serde_json::to_string(&message),
            Self::Stamped { publisher } => {
                // A clock before 1970 is wrong anyhow.
                let sent_us = u64::try_from(now.timestamp_micros()).unwrap_or(0);
                let stamp = Stamp { publisher: publisher.clone(), sequence, sent_us };
                serde_json::to_string(&StampedBody { message, stamp })
            }
        }
        .expect("strings and numbers are always JSON")
    }
}

/// As the tutorial's `strftime("%d-%b-%Y (%H:%M:%S.%f)")` writes it, in local time.
fn tutorial_text(user_id: Uuid, now: DateTime<Local>) -> String {
    format!("user_id: {user_id}, timestamp: {}", now.format("%d-%b-%Y (%H:%M:%S%.6f)"))
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone as _};

    use super::*;

    fn acts(actions: &str, seed: Option<u64>) -> Vec<Act> {
        Acts::new(actions.parse().unwrap(), seed).take(50).collect()
    }

    fn tutorial_time() -> DateTime<Local> {
        Local.with_ymd_and_hms(2022, 3, 8, 12, 30, 56).unwrap() + TimeDelta::microseconds(760_261)
    }

    #[test]
    fn the_same_seed_gives_the_same_acts() {
        assert_eq!(acts("a,b,c", Some(7)), acts("a,b,c", Some(7)));
        assert_ne!(acts("a,b,c", Some(7)), acts("a,b,c", Some(8)));
        assert_ne!(acts("a,b,c", None), acts("a,b,c", None));
    }

    #[test]
    fn a_seed_means_the_same_acts_in_every_version() {
        let first = acts("view,click,close", Some(42)).swap_remove(0);
        assert_eq!((first.action, first.user_id.to_string().as_str()), (2, "74fb6038-00ff-47da-b298-0070bbd45865"));
    }

    #[test]
    fn users_are_random_uuids_of_version_four() {
        for act in acts("a", None) {
            assert_eq!((act.user_id.get_version_num(), act.user_id.get_variant()), (4, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn the_body_is_the_tutorials_string() {
        let body = Payload::Tutorial.body(Uuid::nil(), 5, tutorial_time());
        assert_eq!(
            body,
            r#""user_id: 00000000-0000-0000-0000-000000000000, timestamp: 08-Mar-2022 (12:30:56.760261)""#
        );
        let whole_second = Local.with_ymd_and_hms(2022, 3, 8, 12, 30, 56).unwrap();
        assert!(Payload::Tutorial.body(Uuid::nil(), 5, whole_second).ends_with(":56.000000)\""));
    }

    #[test]
    fn a_stamped_body_carries_the_text_and_the_stamp() {
        let payload = Payload::Stamped { publisher: "p".to_owned() };
        let now = tutorial_time();
        let text = r#"{"message":"user_id: 00000000-0000-0000-0000-000000000000, timestamp: 08-Mar-2022 (12:30:56.760261)","publisher":"p","sequence":5,"sent_us":"#;
        let body = payload.body(Uuid::nil(), 5, now);
        assert_eq!(body, format!("{text}{}}}", now.timestamp_micros()));
        let stamp: Stamp = serde_json::from_str(&body).unwrap();
        assert_eq!((stamp.publisher.as_str(), stamp.sequence), ("p", 5));
    }
}
