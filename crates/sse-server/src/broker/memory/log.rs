//! All channels: appends within the limits, and trims. A pure structure; the time is a parameter.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use sse_proto::{Channel, EventId};

use super::{channel::ChannelLog, keys::Keys};
use crate::broker::{
    BackPage, BrokerError, Page, PageLimits, ReadFrom, Retention, Settled,
    clock::Clock,
    idempotency::{AppendItem, AppendOutcome, Disposition, dispositions},
};

/// Events that are removed from one channel before it is looked again which has the oldest.
const TRIMMED_IN_A_ROW: usize = 64;

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    retention: Retention,
    clock: Clock,
    channels: HashMap<Channel, ChannelLog>,
    /// The last ids of channels that were forgotten: where they begin if they come again.
    forgotten: HashMap<Channel, EventId>,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    origin: EventId,
    /// That all events count.
    bytes: u64,
}

impl Log {
    /// An empty log, whose ids begin with `first_seq` in each millisecond.
    pub(super) fn new(retention: Retention, first_seq: u64) -> Self {
        let origin = EventId::new(0, first_seq);
        let clock = Clock::new(origin, first_seq);
        Self {
            retention,
            clock,
            channels: HashMap::new(),
            forgotten: HashMap::new(),
            origin,
            bytes: 0,
        }
    }

    /// Appends to a channel the parts that it does not have yet: all or none.
    ///
    /// # Errors
    /// `Full`, `KeyReused`, `TooManyKeys`.
    pub(super) fn append(
        &mut self,
        channel: &Channel,
        items: &[AppendItem],
        now_ms: u64,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let log_ms = self.now_ms(now_ms);
        let plans = self.plan(channel, items, log_ms)?;
        let before = |plan: &Disposition| match plan {
            Disposition::Duplicate(ids) => Some(AppendOutcome {
                ids: *ids,
                duplicate: true,
            }),
            Disposition::New | Disposition::SameAs(_) => None,
        };
        if let Some(placed) = plans.iter().map(before).collect() {
            return Ok(placed); // there is nothing to add
        }
        if !self.channels.contains_key(channel) {
            self.create_channel(channel, now_ms)?;
        }
        let kept = self
            .channels
            .get_mut(channel)
            .expect("it was there, or was admitted");
        let mut placed: Vec<AppendOutcome> = Vec::with_capacity(items.len());
        for (item, plan) in items.iter().zip(plans) {
            placed.push(match plan {
                Disposition::New => {
                    let (ids, bytes) = kept.add(&item.events, &mut self.clock, now_ms);
                    self.bytes += bytes;
                    if let Some(idempotency) = item.idempotency {
                        kept.keys
                            .remember(idempotency, ids, log_ms, self.retention.keys);
                    }
                    AppendOutcome {
                        ids,
                        duplicate: false,
                    }
                }
                Disposition::Duplicate(ids) => AppendOutcome {
                    ids,
                    duplicate: true,
                },
                Disposition::SameAs(nth) => AppendOutcome {
                    duplicate: true,
                    ..placed[nth]
                },
            });
        }
        while kept.events.len() > self.retention.events_max.get() {
            self.bytes -= kept.trim().unwrap_or_default();
        }
        self.trim_to_bytes();
        Ok(placed)
    }

    /// Decides what is to be done with parts, and sees that there is room for their keys.
    fn plan(
        &mut self,
        channel: &Channel,
        items: &[AppendItem],
        log_ms: u64,
    ) -> Result<Vec<Disposition>, BrokerError> {
        let mut kept = self.channels.get_mut(channel);
        let Ok(plans) = dispositions(items, |key| {
            Ok::<_, Infallible>(kept.as_ref().and_then(|kept| kept.keys.look(key, log_ms)))
        });
        let plans = plans?;
        let is_new = |(item, plan): &(&AppendItem, &Disposition)| {
            item.idempotency.is_some() && **plan == Disposition::New
        };
        let wanted = items.iter().zip(&plans).filter(is_new).count();
        if wanted > 0 {
            let limits = self.retention.keys;
            match &mut kept {
                Some(kept) => kept.keys.make_room(wanted, log_ms, limits)?,
                None => Keys::default().make_room(wanted, log_ms, limits)?,
            }
        }
        Ok(plans)
    }

    /// Makes a new channel, if there is room for one more.
    fn create_channel(&mut self, new: &Channel, now_ms: u64) -> Result<(), BrokerError> {
        let count = self.channels.len();
        if count >= self.retention.channels_max {
            let cutoff_ms = self.cutoff_ms(now_ms);
            // While it has keys a publish may be sent again, and must find its channel.
            let is_dead = |kept: &ChannelLog| {
                kept.last.ms < cutoff_ms && kept.events.len() <= 1 && kept.keys.is_empty()
            };
            let dead = self
                .channels
                .iter()
                .filter(|(_, kept)| is_dead(kept))
                .min_by_key(|(_, kept)| kept.last);
            let Some(dead) = dead.map(|(channel, _)| channel.clone()) else {
                return Err(BrokerError::Full(format!(
                    "there are {count} channels already, which is the limit (--channels-max), and all have recent events"
                )));
            };
            self.forget(&dead);
        }
        let origin = self.forgotten.remove(new).unwrap_or(self.origin);
        self.channels.insert(new.clone(), ChannelLog::new(origin));
        Ok(())
    }

    /// Removes a channel whose events are all too old. Whoever comes back to it with an id is told of a gap.
    fn forget(&mut self, channel: &Channel) {
        let Some(mut kept) = self.channels.remove(channel) else {
            return;
        };
        while let Some(bytes) = kept.trim() {
            self.bytes -= bytes;
        }
        self.forgotten.insert(channel.clone(), kept.last);
        // As many as there may be channels; beyond that, of the one that is quiet for longest nothing is known any more.
        if self.forgotten.len() > self.retention.channels_max
            && let Some((oldest, last)) = self.forgotten.iter().min_by_key(|(_, last)| **last)
        {
            let (oldest, last) = (oldest.clone(), *last);
            self.forgotten.remove(&oldest);
            self.origin = self.origin.max(last);
        }
    }

    /// Removes the oldest events of all while they are too many bytes.
    fn trim_to_bytes(&mut self) {
        while self.bytes > self.retention.bytes_max {
            let oldest = |kept: &&mut ChannelLog| kept.events.front().map(|event| event.id);
            let with_events = self
                .channels
                .values_mut()
                .filter(|kept| !kept.events.is_empty());
            let Some(kept) = with_events.min_by_key(oldest) else {
                return;
            };
            for _ in 0..TRIMMED_IN_A_ROW {
                if self.bytes > self.retention.bytes_max {
                    self.bytes -= kept.trim().unwrap_or_default();
                }
            }
        }
    }

    /// Removes up to `most` events that are too old, and keys that have expired; returns whether there may be more.
    pub(super) fn sweep(&mut self, now_ms: u64, most: usize) -> bool {
        let (cutoff_ms, log_ms) = (self.cutoff_ms(now_ms), self.now_ms(now_ms));
        let mut left = most;
        for kept in self.channels.values_mut() {
            left -= kept.keys.forget_expired(log_ms, left);
            // The newest one stays.
            while left > 0
                && kept.events.len() > 1
                && kept
                    .events
                    .front()
                    .is_some_and(|event| event.id.ms < cutoff_ms)
            {
                self.bytes -= kept.trim().unwrap_or_default();
                left -= 1;
            }
            if left == 0 {
                return true;
            }
        }
        false
    }

    /// A page of a channel.
    pub(super) fn page(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        match self.channels.get(channel) {
            Some(kept) => kept.page(from, limits),
            None => ChannelLog::new(self.last_id(channel)).page(from, limits),
        }
    }

    /// A page of a channel, backwards.
    pub(super) fn back_page(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> BackPage {
        match self.channels.get(channel) {
            Some(kept) => kept.back_page(before, limits),
            None => ChannelLog::new(self.last_id(channel)).back_page(before, limits),
        }
    }

    /// The last id of a channel; where it begins, if it has none.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        let kept = self.channels.get(channel).map(|kept| kept.last);
        kept.or_else(|| self.forgotten.get(channel).copied())
            .unwrap_or(self.origin)
    }

    /// Lets the clock go past `bound`, if it is time, so that no id up to it is given out any more.
    pub(super) fn check_settled(
        &mut self,
        channel: &Channel,
        bound: EventId,
        now_ms: u64,
    ) -> Settled {
        self.clock.pass(bound, now_ms);
        if self.clock.highest() >= bound {
            return Settled::Through(self.last_id(channel));
        }
        // The clock must be past the millisecond, not in it.
        let to_come_ms = bound.ms.saturating_sub(now_ms).saturating_add(1);
        Settled::NotFor(Duration::from_millis(to_come_ms))
    }

    /// The log's clock, which never goes back.
    pub(super) fn now_ms(&self, now_ms: u64) -> u64 {
        now_ms.max(self.clock.highest().ms)
    }

    fn cutoff_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(u64::try_from(self.retention.age_max.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::{collection::vec, prelude::*};
    use sse_proto::{Event, Position};

    use super::*;
    use crate::broker::{
        Continuity, Stored,
        idempotency::{Fingerprint, IdempotencyKey, KeyLimits},
    };

    /// A log with room for two channels, five events of a channel, and events of a second.
    fn log() -> Log {
        let retention = Retention {
            events_max: NonZeroUsize::new(5).unwrap(),
            age_max: Duration::from_secs(1),
            bytes_max: u64::MAX,
            channels_max: 2,
            keys: KeyLimits {
                window: Duration::from_millis(100),
                keys_max: 3,
            },
        };
        Log::new(retention, 0)
    }

    fn events(data: &str, count: usize) -> Vec<Event> {
        vec![
            Event {
                kind: "click".parse().unwrap(),
                data: data.into()
            };
            count
        ]
    }

    impl Log {
        /// Appends to a channel and sweeps.
        fn add(&mut self, channel: &str, count: usize, now_ms: u64) -> Result<(), BrokerError> {
            let item = AppendItem {
                events: events("x", count),
                idempotency: None,
            };
            self.append(&channel.parse().unwrap(), &[item], now_ms)?;
            while self.sweep(now_ms, 2) {}
            self.check();
            Ok(())
        }

        /// Where an event with a key is, and whether it was there before.
        fn keyed(
            &mut self,
            channel: &str,
            key: u128,
            data: &str,
            now_ms: u64,
        ) -> Result<(u64, bool), BrokerError> {
            let events = events(data, 1);
            let idempotency = Some(IdempotencyKey {
                key: key.into(),
                content: Fingerprint::of_events(&events),
            });
            let placed = self.append(
                &channel.parse().unwrap(),
                &[AppendItem {
                    events,
                    idempotency,
                }],
                now_ms,
            )?;
            self.check();
            Ok((placed[0].ids.first.ms, placed[0].duplicate))
        }

        fn check(&self) {
            let events = self.channels.values().flat_map(|kept| &kept.events);
            assert_eq!(
                self.bytes,
                events.map(super::super::channel::event_bytes).sum::<u64>()
            );
        }

        fn count(&self, channel: &str) -> usize {
            self.channels
                .get(&channel.parse().unwrap())
                .map_or(0, |kept| kept.events.len())
        }

        fn start(&self, channel: &str, after: EventId) -> Continuity {
            let limits = PageLimits {
                events_max: 100,
                bytes_max: 1 << 20,
            };
            self.page(
                &channel.parse().unwrap(),
                ReadFrom::Position(Position::After(after)),
                limits,
            )
            .start
        }
    }

    #[test]
    fn a_dead_channel_makes_room_and_comes_back_where_it_ended() {
        let mut log = log();
        log.add("a", 3, 1000).unwrap();
        log.add("b", 3, 1500).unwrap();
        assert!(matches!(log.add("c", 1, 1900), Err(BrokerError::Full(_))));
        // The events of `a` are too old now; `c` takes its place.
        log.add("b", 1, 2100).unwrap();
        log.add("c", 1, 2200).unwrap();
        assert_eq!((log.count("a"), log.count("c")), (0, 1));
        let last_of_a = EventId::new(1000, 2);
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(
            log.start("a", EventId::new(1000, 1)),
            Continuity::Contiguous
        );
        assert_eq!(log.start("never", EventId::ZERO), Continuity::Contiguous);
        log.add("a", 1, 4000).unwrap();
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(log.start("a", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn of_too_many_forgotten_channels_nothing_is_proved() {
        let mut log = log();
        for (number, channel) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
            log.add(channel, 1, 10_000 * (number as u64 + 1)).unwrap();
        }
        assert_eq!((log.channels.len(), log.forgotten.len()), (2, 2));
        assert_ne!(
            log.start("a", EventId::new(10_000, 0)),
            Continuity::Contiguous
        );
        assert_eq!(
            log.start("d", EventId::new(40_000, 0)),
            Continuity::Contiguous
        );
        assert_ne!(log.start("never", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn too_many_bytes_cost_the_oldest_events_of_all_channels() {
        let mut log = log();
        log.add("a", 2, 1000).unwrap();
        let each = log.bytes / 2;
        log.retention.bytes_max = each * 4;
        log.add("b", 2, 1001).unwrap();
        assert_eq!((log.count("a"), log.count("b")), (2, 2));
        log.add("b", 1, 1002).unwrap();
        assert_eq!((log.count("a"), log.count("b")), (1, 3));
        log.add("b", 2, 1003).unwrap();
        assert_eq!((log.count("a"), log.count("b")), (0, 4));
        assert_ne!(log.start("b", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn events_that_come_together_do_not_all_stay_for_the_last_of_them() {
        let mut log = log();
        log.retention.events_max = NonZeroUsize::new(100).unwrap();
        let large = "x".repeat(10_000);
        let item = AppendItem {
            events: events(&large, 3),
            idempotency: None,
        };
        log.append(&"a".parse().unwrap(), &[item], 1).unwrap();
        let kept: Vec<_> = log.channels[&"a".parse().unwrap()].events.iter().collect();
        assert!(
            kept.iter()
                .all(|event| &*event.data == large.as_str() && &*event.kind == "click")
        );
        // Not even two of them share their memory.
        let ends = |event: &&Stored| {
            (
                event.kind.as_ptr() as usize,
                event.data.as_ptr() as usize + event.data.len(),
            )
        };
        assert!(
            kept.windows(2)
                .all(|two| ends(&two[0]).1 != ends(&two[1]).0)
        );
    }

    #[test]
    fn a_channel_with_keys_is_not_dead() {
        let mut log = log();
        log.retention.keys.window = Duration::from_secs(10);
        log.keyed("a", 1, "x", 1000).unwrap();
        log.add("b", 1, 1500).unwrap();
        log.add("c", 1, 5000).unwrap();
        assert_eq!((log.count("a"), log.count("b"), log.count("c")), (1, 0, 1));
        assert!(matches!(log.add("d", 1, 5001), Err(BrokerError::Full(_))));
        assert_eq!(log.keyed("a", 1, "x", 10_999).unwrap(), (1000, true));
        // Without keys it is.
        log.add("c", 1, 11_000).unwrap();
        log.add("d", 1, 11_001).unwrap();
        assert_eq!(log.count("d"), 1);
    }

    #[test]
    fn a_new_key_waits_until_the_oldest_has_expired() {
        let mut log = log();
        for (key, now_ms) in [(1, 1000), (2, 1010), (3, 1020)] {
            log.keyed("a", key, "x", now_ms).unwrap();
        }
        match log.keyed("a", 4, "x", 1030) {
            Err(BrokerError::TooManyKeys {
                keys_max: 3,
                expires_in,
            }) => {
                assert_eq!(expires_in, Duration::from_millis(70));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(log.keyed("a", 4, "x", 1100).unwrap(), (1100, false));
        // An expired one that comes again is a new one, and expires anew.
        assert_eq!(log.keyed("a", 2, "y", 1115).unwrap(), (1115, false));
        assert_eq!(log.keyed("a", 2, "y", 1214).unwrap(), (1115, true));
    }

    proptest! {
        /// Of each publish its key, its data, and how much later than the one before it comes.
        #[test]
        fn keys_do_what_a_model_does(publishes in vec((1..7_u128, "[xy]", 0..60_u64), 1..60)) {
            let mut log = log();
            let mut known: HashMap<u128, (String, u64)> = HashMap::new();
            let mut now_ms = 1000;
            for (key, data, later_ms) in publishes {
                now_ms += later_ms;
                known.retain(|_, (_, since_ms)| *since_ms + 100 > now_ms);
                let answer = log.keyed("a", key, &data, now_ms);
                match (known.get(&key), answer) {
                    (Some((same, since_ms)), Ok((ms, true))) => prop_assert_eq!((same, *since_ms), (&data, ms)),
                    (Some((other, _)), Err(BrokerError::KeyReused { item: 0 })) => prop_assert_ne!(other, &data),
                    (None, Err(BrokerError::TooManyKeys { .. })) => prop_assert_eq!(known.len(), 3),
                    (None, Ok((ms, false))) => {
                        prop_assert!(known.len() < 3 && ms == now_ms);
                        known.insert(key, (data, now_ms));
                    }
                    (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
                }
            }
        }
    }
}
