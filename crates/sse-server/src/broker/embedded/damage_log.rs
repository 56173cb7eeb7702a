//! What the operator is told of events that cannot be read: one line for each damaged stretch, and not too many of them.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_proto::{Channel, EventId, Position};

use super::store::Store;
use crate::broker::ReadFrom;

/// So many stretches are told of in [`SPAN`].
const TOLD_MAX: usize = 100;
const SPAN: Duration = Duration::from_mins(10);

/// The stretches that were told of, by the event behind them.
#[derive(Debug, Default)]
pub(super) struct DamageLog(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    stretches: HashSet<(Channel, Option<EventId>)>,
    since: Option<Instant>,
}

impl DamageLog {
    /// Whoever reads `from` there goes on with `next`, because what lies between is damaged.
    pub(super) fn found(
        &self,
        store: &Store,
        channel: &Channel,
        from: ReadFrom,
        next: Option<EventId>,
    ) {
        if !self.is_news(channel, next, Instant::now()) {
            return;
        }
        let from = match from {
            ReadFrom::Oldest => "from the oldest on".to_owned(),
            ReadFrom::Time(ms) => format!("from {ms} ms on"),
            ReadFrom::Position(Position::After(id)) => format!("after {id}"),
            ReadFrom::Position(Position::At(id)) => format!("from {id} on"),
        };
        let until = next.map_or_else(|| "to the end".to_owned(), |next| format!("until {next}"));
        tracing::error!(
            "events of channel {channel} cannot be read {from} {until}: {} is damaged. Subscribers are told of the gap and \
             go on behind it; to have the events back, stop the server and restore the file from a backup",
            store.name()
        );
    }

    /// Whether this stretch was not told of yet, and may be.
    fn is_news(&self, channel: &Channel, next: Option<EventId>, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .since
            .is_none_or(|since| now.duration_since(since) > SPAN)
        {
            *told = Told {
                stretches: HashSet::new(),
                since: Some(now),
            };
        }
        told.stretches.len() < TOLD_MAX && told.stretches.insert((channel.clone(), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_is_told_of_once_and_not_too_many_at_a_time() {
        let (damage, channel, now) = (
            DamageLog::default(),
            Channel::default_channel(),
            Instant::now(),
        );
        let told = |now| {
            (0..1000)
                .filter(|ms| damage.is_news(&channel, Some(EventId::new(*ms, 0)), now))
                .count()
        };
        assert!(damage.is_news(&channel, None, now) && !damage.is_news(&channel, None, now));
        assert_eq!((told(now), told(now)), (TOLD_MAX - 1, 0));
        assert_eq!(told(now + 2 * SPAN), TOLD_MAX);
    }
}
