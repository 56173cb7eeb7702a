//! Record files: what a publisher had acknowledged and what a subscriber got, a JSON object a line.
//!
//! Loss is the first file less the second. `event-generator --record` writes [`Sent`], `listener --record` writes
//! [`Received`]; with a record, the generator's payload carries a [`Stamp`], by which both name an event.

use serde::{Deserialize, Serialize};

use crate::api::Gap;

/// Names an event by who sent it: part of the payload of a recorded run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// One lane of one run of a generator, like `<uuid>/0`.
    ///
    /// In a lane each event waits for the answer to the one before: in the log they stand in the order of their numbers.
    pub publisher: String,
    /// Counts the events of that lane from 0. What was refused gives its number back, so what is missing was lost (or
    /// its outcome is unknown; nothing follows it then).
    pub sequence: u64,
    /// When it was due by the publisher's schedule, whenever it was really sent: microseconds since the Unix epoch, by
    /// the publisher's clock.
    ///
    /// So a latency that is measured from here has in it what held the publisher up: a server that is slow to answer
    /// cannot hide that (no "coordinated omission"). Without a schedule it is when the event was sent.
    pub sent_us: u64,
}

/// A line of the publisher's record: an event with a known or an unknown outcome. Refused events have no line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// What is known of it.
    pub outcome: Outcome,
    /// The id that the server answered; none for an event within a batch whose id cannot be told from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The channel it was published to.
    pub channel: String,
    /// As in its [`Stamp`].
    pub publisher: String,
    /// As in its [`Stamp`].
    pub sequence: u64,
}

/// What a publisher knows of an event that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server answered that it is durable: it must arrive.
    Acknowledged,
    /// The answer did not come, or said so: it may arrive, once.
    Unknown,
}

/// A line of the subscriber's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Received {
    /// An event.
    Event {
        /// The last event id after it.
        id: String,
        /// Its type.
        event: String,
        /// When it was read: microseconds since the Unix epoch.
        received_us: u64,
        /// Who sent it, when its payload says so.
        #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// The server said that events may be missing.
    Gap {
        /// The last event id after it.
        id: String,
        /// What the server said.
        gap: Gap,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_with_and_without_a_stamp() {
        let stamp = Stamp {
            publisher: "p".to_owned(),
            sequence: 7,
            sent_us: 8,
        };
        for (stamp, json) in [
            (
                None,
                r#"{"kind":"event","id":"1-0","event":"click","received_us":9}"#,
            ),
            (
                Some(stamp),
                r#"{"kind":"event","id":"1-0","event":"click","received_us":9,"publisher":"p","sequence":7,"sent_us":8}"#,
            ),
        ] {
            let line = Received::Event {
                id: "1-0".to_owned(),
                event: "click".to_owned(),
                received_us: 9,
                stamp,
            };
            assert_eq!(serde_json::to_string(&line).expect("serialisable"), json);
            assert_eq!(
                serde_json::from_str::<Received>(json).expect("reads back"),
                line
            );
        }
    }
}
