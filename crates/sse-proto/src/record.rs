//! Lines of the record files, in which a publisher and a subscriber log events as JSON objects.
//!
//! `event-generator --record` writes [`Sent`] lines, and `listener --record` writes [`Received`]
//! lines. An acknowledged event that is missing in the second file was lost. The id identifies an
//! event in both files. With `--stamp`, the generator adds a [`Stamp`] to the payload, which also
//! identifies events without a known id.

use serde::{Deserialize, Serialize};

use crate::api::Gap;

/// Identifies an event by its publisher. The stamp is a part of the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Run and lane of a generator, such as `<uuid>/0`.
    ///
    /// A lane sends an event only after the response to the previous event. Therefore the log has
    /// the events of a lane in the order of their sequence numbers.
    pub publisher: String,
    /// Number of the event in its lane, from 0.
    ///
    /// The number of a rejected event is reused. A missing number therefore means a lost event, or
    /// an event with an unknown outcome. After an unknown outcome the lane sends no more events.
    pub sequence: u64,
    /// Time at which the event was due by the schedule, in microseconds since the Unix epoch.
    ///
    /// The publisher's clock is used. Without a schedule, this is the time at which the event was
    /// sent.
    ///
    /// A latency measured from this time includes the delay of the publisher itself. A server that
    /// responds slowly cannot hide this delay, which is known as coordinated omission.
    pub sent_us: u64,
}

/// A line of the publisher's record: an event that was acknowledged or has an unknown outcome.
///
/// Rejected events have no line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Outcome of the publish request.
    pub outcome: Outcome,
    /// Event id from the response. `None` if the response to a batch does not state the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The channel of the event.
    pub channel: String,
    /// [`Stamp::publisher`] of the event, also if the event has no stamp.
    pub publisher: String,
    /// [`Stamp::sequence`] of the event, also if the event has no stamp.
    pub sequence: u64,
}

/// Outcome of a publish request, as far as the publisher knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server acknowledged the event as durable. The event must arrive.
    Acknowledged,
    /// No response arrived, or the response reported an unknown outcome. The event may arrive once.
    Unknown,
}

/// A line of the subscriber's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Received {
    /// An event.
    Event {
        /// The last event id after the event.
        id: String,
        /// Event type.
        event: String,
        /// Time of the read, in microseconds since the Unix epoch.
        received_us: u64,
        /// The stamp in the payload, if there is one.
        #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// A gap: the server reported that events may be missing.
    Gap {
        /// The last event id after the gap.
        id: String,
        /// Data of the `gap` event.
        gap: Gap,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_as_they_were_written_with_and_without_a_stamp() {
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
