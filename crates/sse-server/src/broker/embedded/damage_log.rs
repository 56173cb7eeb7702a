//! Logs the events that cannot be read: one line per damaged range, and a limited number of lines.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sse_proto::{Channel, EventId, Position};

use super::store::Store;
use crate::broker::ReadFrom;

/// Ranges that are logged per [`PERIOD`].
const REPORTS_MAX: usize = 100;
/// After this time, every range is logged again.
const PERIOD: Duration = Duration::from_mins(10);

/// The damaged ranges that were logged, by the event that follows each range.
#[derive(Debug, Default)]
pub(super) struct DamageLog(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    ranges: HashSet<(Channel, Option<EventId>)>,
    since: Option<Instant>,
}

impl DamageLog {
    /// Logs that a read `from` a position continues with `next`, because the events in between are
    /// damaged.
    pub(super) fn report(
        &self,
        store: &Store,
        channel: &Channel,
        from: ReadFrom,
        next: Option<EventId>,
    ) {
        if !self.is_new(channel, next, Instant::now()) {
            return;
        }
        let from = match from {
            ReadFrom::Oldest => "from the oldest on".to_owned(),
            ReadFrom::Time(ms) => format!("from {ms} ms on"),
            ReadFrom::Position(Position::After(id)) => format!("after {id}"),
            ReadFrom::Position(Position::At(id)) => format!("from {id} on"),
        };
        let until = describe_end(next);
        tracing::error!(
            "events of channel {channel} cannot be read {from} {until}: {} is damaged. Subscribers \
             receive a gap and continue after it; to have the events back, stop the server and \
             restore the file from a backup",
            store.file_name()
        );
    }

    /// Returns true if the range before `next` was not logged yet and may be logged.
    fn is_new(&self, channel: &Channel, next: Option<EventId>, now: Instant) -> bool {
        let mut reported = self.lock();
        reported.forget_old(now);
        reported.insert(channel, next)
    }

    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reported {
    /// Forgets all ranges once a period is over.
    fn forget_old(&mut self, now: Instant) {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) > PERIOD)
        {
            *self = Self {
                ranges: HashSet::new(),
                since: Some(now),
            };
        }
    }

    /// Adds a range. Returns true if it is new and within the limit.
    fn insert(&mut self, channel: &Channel, next: Option<EventId>) -> bool {
        self.ranges.len() < REPORTS_MAX && self.ranges.insert((channel.clone(), next))
    }
}

fn describe_end(next: Option<EventId>) -> String {
    next.map_or_else(|| "to the end".to_owned(), |next| format!("until {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_is_logged_once_per_period_and_their_number_is_limited() {
        let (damage_log, channel, now) = (
            DamageLog::default(),
            Channel::default_channel(),
            Instant::now(),
        );
        let count_logged = |now| {
            (0..1000)
                .filter(|ms| damage_log.is_new(&channel, Some(EventId::new(*ms, 0)), now))
                .count()
        };
        assert!(damage_log.is_new(&channel, None, now) && !damage_log.is_new(&channel, None, now));
        assert_eq!((count_logged(now), count_logged(now)), (REPORTS_MAX - 1, 0));
        assert_eq!(count_logged(now + 2 * PERIOD), REPORTS_MAX);
    }
}
