//! The channels with the most publishes on this node, in bounded memory.
//!
//! The sketch is Space-Saving (Metwally, Agrawal, El Abbadi 2005) in sets, like a cache: the hash of
//! a name selects a set of [`WAYS`] entries, and a channel without an entry replaces the one with the
//! fewest events. The new entry starts with that count, which is kept as its possible error. So a
//! channel whose part of all events is more than 1 in [`SETS`] × [`WAYS`] has an entry with high
//! probability, however many channels there are.
//!
//! Counts decay with the time constant [`MEMORY_S`], so count / [`MEMORY_S`] is a rate. A publish
//! takes the lock of one set and compares up to eight hashes. A publish that finds the set locked is
//! not counted.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sse_proto::Channel;

use super::Metrics;

/// Sets of entries; a power of two.
const SETS: usize = 128;
/// Entries of a set.
const WAYS: usize = 8;
/// Time in which the weight of an event falls to 1/e, in seconds.
const MEMORY_S: f64 = 60.0;
/// An entry with a smaller count is forgotten.
const EVENTS_MIN: f64 = 0.01;

/// The sketch.
#[derive(Debug)]
pub(crate) struct Busiest {
    hasher: RandomState,
    sets: Vec<Mutex<[Entry; WAYS]>>,
}

/// One channel and its counts.
#[derive(Debug, Default)]
struct Entry {
    hash: u64,
    /// `None` if the entry is free.
    channel: Option<Channel>,
    /// Events, at most `error` too many.
    events: f64,
    error: f64,
    /// Bytes of data since the channel has this entry.
    bytes: f64,
}

/// A channel and how much is published to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BusyChannel {
    pub(crate) channel: Channel,
    /// A lower bound, averaged over about a minute.
    pub(crate) events_per_s: f64,
    /// Of data.
    pub(crate) bytes_per_s: f64,
}

impl Default for Busiest {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Metrics {
    /// Returns the busiest channels.
    pub(crate) fn busiest(&self) -> &Busiest {
        &self.0.busiest
    }
}

impl Busiest {
    /// Counts events that were added to a channel, and the bytes of their data.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "counts of one publish are small; the upper half of the hash is compared as well"
    )]
    pub(crate) fn record(&self, channel: &Channel, events: usize, bytes: usize) {
        if events == 0 {
            return;
        }
        let hash = self.hasher.hash_one(channel);
        let set = self.sets.get(hash as usize % SETS).map(Mutex::try_lock);
        if let Some(Ok(mut set)) = set {
            let entry = find_or_replace(&mut set, hash, channel);
            entry.events += events as f64;
            entry.bytes += bytes as f64;
        }
    }

    /// Lets the counts decay by the time that has passed.
    pub(crate) fn decay(&self, passed: Duration) {
        let factor = (-passed.as_secs_f64() / MEMORY_S).exp();
        for set in &self.sets {
            // No code panics while it holds this lock.
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in set.iter_mut() {
                entry.events *= factor;
                entry.error *= factor;
                entry.bytes *= factor;
                if entry.events < EVENTS_MIN {
                    *entry = Entry::default();
                }
            }
        }
    }

    /// Returns the channels with the most events, at most `count`, the busiest first.
    pub(crate) fn top(&self, count: usize) -> Vec<BusyChannel> {
        let mut found = Vec::new();
        for set in &self.sets {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(set.iter().filter_map(Entry::describe));
        }
        found.sort_by(|one, other| {
            let by_rate = other.events_per_s.total_cmp(&one.events_per_s);
            by_rate.then_with(|| one.channel.cmp(&other.channel))
        });
        found.truncate(count);
        found
    }
}

impl Entry {
    fn describe(&self) -> Option<BusyChannel> {
        let channel = self.channel.clone()?;
        let events = self.events - self.error;
        (events >= EVENTS_MIN).then_some(BusyChannel {
            channel,
            events_per_s: events / MEMORY_S,
            bytes_per_s: self.bytes / MEMORY_S,
        })
    }
}

fn find_or_replace<'a>(set: &'a mut [Entry; WAYS], hash: u64, channel: &Channel) -> &'a mut Entry {
    let is_same = |entry: &Entry| entry.hash == hash && entry.channel.as_ref() == Some(channel);
    let index = set.iter().position(is_same).unwrap_or_else(|| {
        let fewest = set.iter().enumerate();
        let fewest = fewest.min_by(|(_, one), (_, other)| one.events.total_cmp(&other.events));
        let index = fewest.map_or(0, |(index, _)| index);
        set[index] = Entry {
            hash,
            channel: Some(channel.clone()),
            error: set[index].events,
            events: set[index].events,
            bytes: 0.0,
        };
        index
    });
    &mut set[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    #[test]
    fn the_busiest_are_found_among_many_channels_and_counted_at_most_as_often_as_they_published() {
        let busiest = Busiest::default();
        for round in 0..100_u64 {
            for busy in 0..200 {
                busiest.record(&channel(&format!("busy.{busy}")), 3, 30);
            }
            for rare in 0..200 {
                busiest.record(&channel(&format!("rare.{round}.{rare}")), 1, 10);
            }
        }
        let top = busiest.top(200);
        let busy = top
            .iter()
            .filter(|found| found.channel.as_str().starts_with("busy."));
        // Nine of the 200 may fall into one set of eight.
        assert!(busy.clone().count() >= 190, "{}", busy.count());
        let most = 300.0 / MEMORY_S + 1e-6;
        assert!(
            top.iter().all(|found| found.events_per_s <= most),
            "{top:?}"
        );
        assert!(top[0].bytes_per_s > 0.0);
    }

    #[test]
    fn counts_decay_until_the_channel_is_forgotten() {
        let busiest = Busiest::default();
        busiest.record(&channel("a"), 2, 20);
        busiest.record(&channel("b"), 1, 10);
        busiest.record(&channel("none"), 0, 0);
        let names = |top: Vec<BusyChannel>| -> Vec<String> {
            top.iter().map(|found| found.channel.to_string()).collect()
        };
        assert_eq!(names(busiest.top(10)), ["a", "b"]);
        assert_eq!(names(busiest.top(1)), ["a"]);
        busiest.decay(Duration::from_secs_f64(MEMORY_S));
        assert!(
            (busiest.top(1)[0].events_per_s * MEMORY_S - 2.0 / std::f64::consts::E).abs() < 1e-9
        );
        busiest.decay(Duration::from_secs_f64(10.0 * MEMORY_S));
        assert!(busiest.top(10).is_empty());
    }
}
