//! Events of the tutorial: a random user takes a random action, and a text describes it.
//!
//! The data is the JSON string `"user_id: …, timestamp: …"`. With `--stamp` the data is an object
//! instead. It contains the string as `message`, and the keys of the [`Stamper`], by which the
//! listener's record names the event.

use std::fmt::Write as _;

use chrono::{DateTime, Local};
use rand::rngs::Xoshiro256PlusPlus;
use uuid::Uuid;

use super::{
    actions::Actions,
    event::{DataFormat, EventSlot, NextEvent},
    rng::{random_uuid, seeded_rng},
    stamper::Stamper,
};

/// An action of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UserAction {
    /// Index in [`Actions::names`].
    action: usize,
    /// Random UUID, version 4.
    user_id: Uuid,
}

/// Endless events of the tutorial. The same seed and the same actions give the same users and
/// actions.
#[derive(Debug)]
pub(crate) struct Tutorial {
    actions: Actions,
    rng: Xoshiro256PlusPlus,
    stamper: Option<Stamper>,
}

impl Tutorial {
    /// Without a seed, the events are different in every run.
    pub(crate) fn new(actions: Actions, seed: Option<u64>, stamper: Option<Stamper>) -> Self {
        Self {
            actions,
            rng: seeded_rng(seed),
            stamper,
        }
    }

    /// Writes the data of the next event to `data`.
    pub(super) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> NextEvent {
        let action = self.choose_action();
        self.write_data(action.user_id, slot, Local::now(), data);
        NextEvent {
            event_type: self.actions.names()[action.action].clone(),
            format: DataFormat::Json,
        }
    }

    fn choose_action(&mut self) -> UserAction {
        let action = self.actions.choose(&mut self.rng);
        let user_id = random_uuid(&mut self.rng);
        UserAction { action, user_id }
    }

    /// Writes the text as `strftime("%d-%b-%Y (%H:%M:%S.%f)")` of the tutorial does, in local time.
    /// JSON needs no escapes for it.
    fn write_data(&self, user_id: Uuid, slot: EventSlot, now: DateTime<Local>, out: &mut String) {
        let time = now.format("%d-%b-%Y (%H:%M:%S%.6f)");
        let message = if self.stamper.is_some() {
            r#"{"message":"#
        } else {
            ""
        };
        write!(out, r#"{message}"user_id: {user_id}, timestamp: {time}""#)
            .expect("a String accepts any text");
        if let Some(stamper) = &self.stamper {
            out.push(',');
            stamper.write(slot, out);
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone as _};
    use sse_proto::record::Stamp;

    use super::*;
    use crate::payload::lane::Lane;

    fn chosen_actions(actions: &str, seed: Option<u64>) -> Vec<UserAction> {
        let mut tutorial = Tutorial::new(actions.parse().unwrap(), seed, None);
        (0..50).map(|_| tutorial.choose_action()).collect()
    }

    fn tutorial_time() -> DateTime<Local> {
        Local.with_ymd_and_hms(2022, 3, 8, 12, 30, 56).unwrap() + TimeDelta::microseconds(760_261)
    }

    fn data(stamper: Option<Stamper>, now: DateTime<Local>) -> String {
        let mut data = String::new();
        let slot = EventSlot {
            lane: Lane { number: 0, next: 5 },
            due_us: 7,
        };
        Tutorial::new("a".parse().unwrap(), None, stamper).write_data(
            Uuid::nil(),
            slot,
            now,
            &mut data,
        );
        data
    }

    #[test]
    fn the_same_seed_gives_the_same_users_and_actions() {
        assert_eq!(
            chosen_actions("a,b,c", Some(7)),
            chosen_actions("a,b,c", Some(7))
        );
        assert_ne!(
            chosen_actions("a,b,c", Some(7)),
            chosen_actions("a,b,c", Some(8))
        );
        assert_ne!(chosen_actions("a,b,c", None), chosen_actions("a,b,c", None));
    }

    #[test]
    fn a_seed_gives_the_same_events_in_every_version() {
        let first = chosen_actions("view,click,close", Some(42)).swap_remove(0);
        assert_eq!(
            (first.action, first.user_id.to_string().as_str()),
            (2, "74fb6038-00ff-47da-b298-0070bbd45865")
        );
    }

    #[test]
    fn users_are_random_uuids_of_version_four() {
        for action in chosen_actions("a", None) {
            assert_eq!(
                (
                    action.user_id.get_version_num(),
                    action.user_id.get_variant()
                ),
                (4, uuid::Variant::RFC4122)
            );
        }
    }

    #[test]
    fn the_data_is_the_string_of_the_tutorial() {
        assert_eq!(
            data(None, tutorial_time()),
            r#""user_id: 00000000-0000-0000-0000-000000000000, timestamp: 08-Mar-2022 (12:30:56.760261)""#
        );
        let whole_second = Local.with_ymd_and_hms(2022, 3, 8, 12, 30, 56).unwrap();
        assert!(data(None, whole_second).ends_with(":56.000000)\""));
    }

    #[test]
    fn a_stamped_event_contains_the_text_and_the_stamp() {
        let stamper = Stamper::new();
        let data = data(Some(stamper.clone()), tutorial_time());
        let start = r#"{"message":"user_id: 00000000-0000-0000-0000-000000000000, timestamp: 08-Mar-2022 (12:30:56.760261)","#;
        assert!(data.starts_with(start), "{data}");
        let stamp: Stamp = serde_json::from_str(&data).unwrap();
        assert_eq!(
            stamp,
            Stamp {
                publisher: stamper.publisher(0),
                sequence: 5,
                sent_us: 7
            }
        );
    }
}
