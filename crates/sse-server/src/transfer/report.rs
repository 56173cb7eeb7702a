//! What a copy has done, as sentences.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sse_proto::EventId;

use crate::broker::transfer::{SourceChannel, SourcePage};

/// How often progress is reported.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Counts what was copied.
#[derive(Debug, Default)]
pub(super) struct Report {
    channels: AtomicU64,
    deletions: AtomicU64,
    /// Events of all channels, whenever they were copied.
    events: AtomicU64,
    new_events: AtomicU64,
    new_keys: AtomicU64,
    /// Places where the log is damaged.
    holes: AtomicU64,
    damaged_keys: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Report {
    /// Counts channels from the beginning, because the last pass looks at all of them.
    pub(super) fn begin_last_pass(&self) {
        for counter in [&self.channels, &self.deletions, &self.events] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn add_page(&self, page: &SourcePage) {
        let holes = page
            .records
            .iter()
            .filter(|record| record.event.is_none())
            .count();
        add(&self.new_events, page.records.len() - holes);
        add(&self.holes, holes);
        add(&self.new_keys, page.keys.len());
        if !page.more {
            self.damaged_keys
                .fetch_add(page.damaged_keys, Ordering::Relaxed);
        }
    }

    /// Counts a channel that is copied whole.
    pub(super) fn add_channel(&self, channel: &SourceChannel) {
        add(&self.channels, 1);
        let events = channel.state.as_ref().map_or(0, |state| state.records);
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_deletion(&self) {
        add(&self.deletions, 1);
    }

    pub(super) fn progress(&self) -> String {
        let (channels, events) = (get(&self.channels), get(&self.new_events));
        format!("copied {channels} channels, and {events} events now")
    }

    /// Describes a copy that is complete up to the id `highest`.
    pub(super) fn describe(&self, highest: EventId) -> String {
        let damage = match (get(&self.holes), get(&self.damaged_keys)) {
            (0, 0) => String::new(),
            (holes, keys) => format!(
                "; the log is damaged: readers get a gap in {holes} places, and {keys} keys are \
                 missing"
            ),
        };
        format!(
            "the copy is complete up to the id {highest}: {} channels with {} events, and {} \
             deletions; of these, {} events and {} keys were copied now{damage}",
            get(&self.channels),
            get(&self.events),
            get(&self.deletions),
            get(&self.new_events),
            get(&self.new_keys),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_log_is_reported() {
        let report = Report::default();
        let sentence = report.describe(EventId::new(5, 1));
        assert!(sentence.contains("up to the id 5-1") && !sentence.contains("damaged"));
        add(&report.holes, 2);
        let sentence = report.describe(EventId::new(5, 1));
        assert!(sentence.contains("a gap in 2 places"), "{sentence}");
    }
}
