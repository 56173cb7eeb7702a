//! `--until-end`: the listener ends when the channels that it follows have ended.
//!
//! When a channel is closed or deleted, the server sends the event `end`, whose data is a JSON
//! object with the channel.

use std::collections::HashSet;

use serde::Deserialize;

use crate::decode::decoder::Event;

const END: &str = "end";

/// The channels that have not ended yet.
#[derive(Debug)]
pub(super) struct UntilEnd {
    ended: HashSet<String>,
    /// How many channels are followed.
    wanted: usize,
}

/// The data of the event.
#[derive(Deserialize)]
struct EndData {
    channel: String,
}

impl UntilEnd {
    /// Waits for the end of `channels` channels; a stream without a channel has one.
    pub(super) fn new(channels: usize) -> Self {
        Self {
            ended: HashSet::new(),
            wanted: channels.max(1),
        }
    }

    /// Returns `true` if `event` is the end of the last channel.
    pub(super) fn record(&mut self, event: &Event) -> bool {
        if event.kind != END {
            return false;
        }
        // The event of another server, with other data, ends nothing.
        let Ok(EndData { channel }) = serde_json::from_str(&event.data) else {
            return false;
        };
        // A server that sends ends of other channels must not fill the memory.
        if self.ended.len() < self.wanted {
            self.ended.insert(channel);
        }
        self.ended.len() >= self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event {
            id: String::new(),
            kind: kind.to_owned(),
            data: data.to_owned(),
            end: 0,
        }
    }

    #[test]
    fn the_listener_ends_with_the_last_channel() {
        let (a, b) = (r#"{"channel":"a","reason":"closed"}"#, r#"{"channel":"b"}"#);
        let mut until_end = UntilEnd::new(2);
        for (kind, data, is_end) in [
            ("end", a, false),
            ("end", a, false),
            ("end", "text", false),
            ("end", r#"{"reason":"closed"}"#, false),
            ("click", b, false),
            ("end", b, true),
        ] {
            assert_eq!(
                until_end.record(&event(kind, data)),
                is_end,
                "{kind} {data}"
            );
        }
        assert!(UntilEnd::new(0).record(&event("end", a)));
    }
}
