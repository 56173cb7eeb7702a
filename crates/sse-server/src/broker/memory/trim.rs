//! Trimming: removes the oldest events beyond the limits of the history.
//!
//! | limit | scope | which events go | when |
//! |---|---|---|---|
//! | count, bytes | channel | the oldest of the channel | at every append, and in sweeps |
//! | bytes | log     | the oldest of all channels | at every append |
//! | age   | channel | those beyond the age, but never the newest of the channel | in sweeps |

use std::ops::AddAssign;

use super::{channel::ChannelLog, channels::Channels};
use crate::broker::lifecycle::Effective;

/// Events that are removed from one channel before the oldest event of all channels is searched
/// again.
const TRIM_BATCH: usize = 64;

/// Events that were removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) events: usize,
    /// What the events counted towards the limit of bytes.
    pub(super) bytes: u64,
}

impl AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// Removes the oldest events while `is_excess` holds.
fn remove_while(
    channel: &mut ChannelLog,
    is_excess: impl Fn(&ChannelLog, Removed) -> bool,
) -> Removed {
    let mut removed = Removed::default();
    while is_excess(channel, removed)
        && let Some(bytes) = channel.remove_oldest()
    {
        removed.events += 1;
        removed.bytes += bytes;
    }
    removed
}

/// Removes the events of a channel beyond its own limits of count and bytes.
pub(super) fn trim_channel(channel: &mut ChannelLog, limits: &Effective) -> Removed {
    let events_max = usize::try_from(limits.events_max()).unwrap_or(usize::MAX);
    let bytes_max = limits.settings.history_bytes.unwrap_or(u64::MAX);
    remove_while(channel, |channel, _| {
        let count = channel.events().len();
        count > events_max || count > 1 && channel.bytes() > bytes_max
    })
}

/// Removes up to `remove_max` events of a channel, also the newest.
pub(super) fn trim_all(channel: &mut ChannelLog, remove_max: usize) -> Removed {
    remove_while(channel, |_, removed| removed.events < remove_max)
}

/// Removes the events of a channel that are older than `cutoff_ms`, up to `remove_max` of them. The
/// newest event stays.
pub(super) fn trim_to_age(channel: &mut ChannelLog, cutoff_ms: u64, remove_max: usize) -> Removed {
    remove_while(channel, |channel, removed| {
        removed.events < remove_max && channel.has_events_before(cutoff_ms)
    })
}

/// Removes the oldest events of all channels while together they have more than `bytes_max` bytes.
///
/// `bytes` is what they have now. Returns what they have afterwards.
pub(super) fn trim_to_bytes(channels: &mut Channels, mut bytes: u64, bytes_max: u64) -> u64 {
    while bytes > bytes_max
        && let Some(removed) =
            channels.update_oldest(|channel| remove_batch(channel, bytes - bytes_max))
    {
        bytes -= removed.bytes;
    }
    bytes
}

/// Removes up to [`TRIM_BATCH`] of the oldest events of a channel, until `excess` bytes are gone.
fn remove_batch(channel: &mut ChannelLog, excess: u64) -> Removed {
    remove_while(channel, |_, removed| {
        removed.events < TRIM_BATCH && removed.bytes < excess
    })
}

#[cfg(test)]
mod tests {
    use sse_proto::{Event, EventId};

    use super::*;
    use crate::broker::{
        clock::Clock,
        lifecycle::{ChannelSettings, SettingSource},
    };

    /// A channel with one event in each of these milliseconds.
    fn channel(times_ms: &[u64]) -> ChannelLog {
        let mut channel = ChannelLog::new(1, EventId::ZERO);
        let mut clock = Clock::new(EventId::ZERO, 0);
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "x".into(),
        };
        for ms in times_ms {
            channel.append(std::slice::from_ref(&event), &mut clock, *ms);
        }
        channel
    }

    fn limits(events: u64, bytes: u64) -> Effective {
        Effective {
            settings: ChannelSettings {
                history_events: Some(events),
                history_bytes: Some(bytes),
                ..ChannelSettings::NONE
            },
            sources: [SettingSource::Channel; 5],
        }
    }

    #[test]
    fn the_count_leaves_the_newest_events() {
        let mut log = channel(&[1, 2, 3, 4]);
        assert_eq!(trim_channel(&mut log, &limits(3, u64::MAX)).events, 1);
        assert_eq!(log.oldest(), Some(EventId::new(2, 0)));
        let none = trim_channel(&mut log, &limits(3, u64::MAX));
        assert_eq!(none, Removed::default());
        assert_eq!(trim_channel(&mut log, &limits(3, 1)).events, 2);
    }

    #[test]
    fn the_age_leaves_the_newest_event_and_respects_its_limit() {
        let mut log = channel(&[1, 2, 3, 9]);
        assert_eq!(trim_to_age(&mut log, 3, 1).events, 1);
        assert_eq!(trim_to_age(&mut log, 3, 10).events, 1);
        assert_eq!(log.oldest(), Some(EventId::new(3, 0)));
        assert_eq!(trim_to_age(&mut log, 100, 10).events, 1);
        assert_eq!(log.events().len(), 1);
    }
}
