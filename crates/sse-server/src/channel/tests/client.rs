//! The model of a client: it checks each block that arrives.

use std::collections::HashMap;

use sse_proto::{
    Channel, Cursor,
    api::{self, Gap},
};

use super::log::Log;
use crate::channel::{Envelope, SubscriptionOptions};

/// The client: which events it has got, and the id that it reconnects with.
#[derive(Default)]
pub(super) struct Client {
    pub(super) last_event_id: String,
    /// Index of the next event that must arrive, per channel.
    pub(super) due: HashMap<Channel, usize>,
}

impl Client {
    /// Reads one block, and checks that it is the one that must come next.
    pub(super) fn read_block(&mut self, block: &str, logs: &[Log], options: &SubscriptionOptions) {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if let Some(id) = field("id") {
            id.clone_into(&mut self.last_event_id);
            assert!(
                id.len() < Cursor::BYTES_MAX && id.parse::<Cursor>().is_ok(),
                "{id}"
            );
            assert_eq!(id.contains('='), logs.len() > 1, "{id}");
        }
        match (field("event"), field("data")) {
            (_, None) => {}
            (Some("gap"), Some(data)) => self.check_gap(data, logs),
            (_, Some(data)) => self.check_event(data, logs, options),
        }
    }

    fn check_gap(&mut self, data: &str, logs: &[Log]) {
        let gap: Gap = serde_json::from_str(data).unwrap();
        let log = logs.iter().find(|log| log.channel == gap.channel).unwrap();
        let due = self.due.entry(gap.channel.clone()).or_default();
        let cursor: Cursor = self.last_event_id.parse().unwrap();
        let floor = cursor.position_in(&log.channel).unwrap().floor();
        let oldest = log.events.partition_point(|event| event.id <= floor);
        assert!(
            gap.oldest.is_none_or(|id| log.events[oldest].id == id),
            "{data}"
        );
        assert!(
            *due < oldest && oldest <= log.trimmed,
            "a false gap: {data}"
        );
        *due = oldest;
    }

    fn check_event(&mut self, data: &str, logs: &[Log], options: &SubscriptionOptions) {
        let envelope: Option<api::Envelope<'_>> =
            (options.envelope == Envelope::Json).then(|| serde_json::from_str(data).unwrap());
        // The data contains the channel and the index of the event.
        let data = envelope.as_ref().map_or(data, |envelope| &envelope.data);
        let (channel, number) = data.split_once(' ').unwrap();
        let log = logs
            .iter()
            .find(|log| log.channel.as_str() == channel)
            .unwrap();
        let number: usize = number.parse().unwrap();
        let due = self.due.entry(log.channel.clone()).or_default();
        assert!(envelope.as_ref().is_none_or(
            |envelope| envelope.id == log.events[number].id && envelope.channel == channel
        ));
        let missing = log.events[*due..number]
            .iter()
            .filter(|event| options.filter.passes(&event.kind))
            .count();
        assert!(
            number >= *due && missing == 0,
            "event {data} where {due} was due"
        );
        assert!(
            options
                .until
                .is_none_or(|bound| log.events[number].id <= bound),
            "event {data} after the end"
        );
        *due = number + 1;
    }
}
