//! Finds out that Redis lost acknowledged events (a fail-over, an older snapshot), and says so in the log.
//!
//! A loss behind an id that survived proves itself to nobody: the log simply goes on. So a node remembers of each
//! channel the newest id that it saw acknowledged or read. Whenever it has connected anew, and before it publishes or
//! reads anything more, it looks whether that event is still there. If not, it appends a *gap record* with an id above the
//! lost ones: ids never go back, a lost id is not given out again, and every cursor that crosses the record is told, on
//! every node, now and at any later replay. `scripts/record_loss.lua` does it in one step, so that a fork has one record however many
//! nodes find it; a small index beside the stream finds the record of a cursor that stands among the lost ids.
//!
//! What survived is what lies before the lost event, as long as the clock of Redis goes on. A promoted replica's may be
//! behind, and then what is published after the loss may lie there too. So a node also keeps a few older ids: an event
//! that it has seen before the loss and that is still there lies before all that came after.
//!
//! The memory is bounded: a few ids for each of as many channels as there may be. Beyond, the half that was quiet for
//! longest is forgotten, and a loss in those is found only by nodes that still know. Nobody finds it when all nodes that
//! knew the lost ids are gone too.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt as _;
use redis::{Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use smallvec::SmallVec;
use sse_proto::{Channel, EventId, api::Lost};

use super::Names;
use crate::metrics::Metrics;

const RECORD_LOSS: &str = include_str!("scripts/record_loss.lua");
/// Channels that are looked at in one pipeline.
const VERIFY_BATCH: usize = 64;
/// Gap records that a channel's index keeps. Whoever stands in the range of an older one reads from the oldest event on.
const GAP_RECORDS_MAX: usize = 32;

/// How old a channel's newest id is at least when it is kept as one that is probably in every replica.
const STABLE_AGE: Duration = Duration::from_secs(10);

/// Ids of a channel that may be in doubt at a time.
const UNVERIFIED_MAX: usize = 8;

/// What this node knows of the ends of channels.
#[derive(Debug)]
pub(super) struct LossDetector {
    names: Names,
    age_max: Duration,
    channels_max: usize,
    known: Mutex<HashMap<Channel, KnownIds>>,
    /// How often everything was in doubt.
    era: AtomicU64,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
struct KnownIds {
    /// The newest id that was acknowledged or read, and when.
    newest: (EventId, Instant),
    /// Those of connections before this of which it is not known yet whether they are still there, the oldest first. Each
    /// may be there or not whatever becomes of the others: Redis may have lost its end between any two.
    unverified: SmallVec<[(EventId, Instant); 1]>,
    /// Older ones; the last that was found to be there by a look, or the first that was seen.
    verified_id: EventId,
    /// One that was the newest when `next_stable_id` became that, and one that will take its place.
    stable_id: EventId,
    next_stable_id: (EventId, Instant),
}

impl KnownIds {
    fn first(id: EventId, at: Instant) -> Self {
        Self {
            newest: (id, at),
            unverified: SmallVec::new(),
            verified_id: id,
            stable_id: id,
            next_stable_id: (id, at),
        }
    }

    fn observe(&mut self, id: EventId, at: Instant) {
        if id <= self.newest.0 {
            return;
        }
        if at.duration_since(self.next_stable_id.1) >= STABLE_AGE {
            self.stable_id = self.next_stable_id.0;
            self.next_stable_id = (self.newest.0, at);
        }
        self.newest = (id, at);
    }

    fn mark_unverified(&mut self, id: EventId, since: Instant) {
        let Err(place) = self.place(id) else { return };
        self.unverified.insert(place, (id, since));
        if self.unverified.len() > UNVERIFIED_MAX {
            // Not the oldest and not the newest; a loss of nothing but what lies there is found by other nodes.
            self.unverified.remove(1);
        }
    }

    /// Where an id is among those in doubt, or would be.
    fn place(&self, id: EventId) -> Result<usize, usize> {
        self.unverified.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// What is to be looked at.
    fn unverified_ids(&self) -> impl Iterator<Item = UnverifiedId> {
        self.unverified.iter().map(|(id, since)| {
            let known = [self.next_stable_id.0, self.stable_id, self.verified_id];
            let mut older = known.map(|known| if known < *id { known } else { EventId::ZERO });
            older.sort_unstable_by(|a, b| b.cmp(a));
            UnverifiedId {
                id: *id,
                since: *since,
                older,
            }
        })
    }
}

/// An event that may be lost.
#[derive(Debug, Clone, Copy)]
struct UnverifiedId {
    id: EventId,
    /// When it was acknowledged or read.
    since: Instant,
    /// Other ids that are known, the newest first.
    older: [EventId; 3],
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
enum Verification {
    Present,
    Trimmed,
    /// It is lost, and another node has recorded it.
    AlreadyRecorded(Lost),
    /// It is lost, and this is the record.
    Recorded(Lost),
}

impl LossDetector {
    pub(super) fn new(
        names: Names,
        age_max: Duration,
        channels_max: usize,
        metrics: Metrics,
    ) -> Self {
        Self {
            names,
            age_max,
            channels_max,
            known: Mutex::default(),
            era: AtomicU64::new(0),
            metrics,
        }
    }

    /// Counts the connections that [`mark_all_unverified`](Self::doubt_all) was told of. To be known of a command whose answer
    /// [`observe`](Self::saw) is told.
    fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// An id of `channel` was acknowledged or read, by a command of this era. One of an era before may have been
    /// acknowledged by a connection that is gone, and come too late for the look that followed.
    pub(super) fn observe(&self, channel: &Channel, id: EventId, era: u64) {
        if id == EventId::ZERO {
            return;
        }
        let mut all = self.known();
        let now = Instant::now();
        if !all.contains_key(channel) {
            if all.len() >= self.channels_max {
                forget_half(&mut all);
            }
            all.insert(channel.clone(), KnownIds::first(id, now));
        }
        if let Some(known) = all.get_mut(channel) {
            known.observe(id, now);
            // Under the lock, by which an era ends.
            if era != self.era() {
                known.mark_unverified(id, now);
            }
        }
    }

    /// It is not certain any more that Redis has what it had. Returns the era that begins.
    pub(super) fn mark_all_unverified(&self) -> u64 {
        let mut all = self.known();
        let era = self.era.fetch_add(1, Ordering::SeqCst) + 1;
        for known in all.values_mut() {
            known.mark_unverified(known.newest.0, known.newest.1);
        }
        era
    }

    /// Looks at one channel, whether it is in doubt or not.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn verify(
        &self,
        channel: &Channel,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let unverified_ids: Vec<(Channel, UnverifiedId)> = match self.known().get_mut(channel) {
            Some(known) => {
                known.mark_unverified(known.newest.0, known.newest.1);
                known
                    .unverified_ids()
                    .map(|mark_unverified| (channel.clone(), mark_unverified))
                    .collect()
            }
            None => return Ok(()),
        };
        self.verify_ids(&unverified_ids, connection).await
    }

    /// Looks at every channel that is in doubt. One that cannot be settled (Redis is a replica, or full) stays so.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn verify_all(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut unverified_ids = Vec::new();
        for (channel, known) in &*self.known() {
            unverified_ids.extend(
                known
                    .unverified_ids()
                    .map(|mark_unverified| (channel.clone(), mark_unverified)),
            );
        }
        self.verify_ids(&unverified_ids, connection).await
    }

    async fn verify_ids(
        &self,
        channels: &[(Channel, UnverifiedId)],
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut lost = 0;
        for some in channels.chunks(VERIFY_BATCH) {
            let answers: Vec<Value> = self
                .verification_commands(some)
                .query_async(connection)
                .await?;
            // The first one is the script's name.
            for ((channel, mark_unverified), answer) in some.iter().zip(answers.into_iter().skip(1))
            {
                lost += usize::from(self.take(channel, mark_unverified.id, answer));
            }
        }
        if lost > 0 {
            self.metrics.failover_loss_found();
        }
        Ok(())
    }

    fn verification_commands(&self, channels: &[(Channel, UnverifiedId)]) -> Pipeline {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        commands.cmd("SCRIPT").arg("LOAD").arg(RECORD_LOSS);
        let script = redis::Script::new(RECORD_LOSS);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for (channel, mark_unverified) in channels {
            commands.cmd("EVALSHA").arg(script.get_hash()).arg(2);
            commands
                .arg(self.names.stream(channel))
                .arg(self.names.gaps(channel));
            commands
                .arg(mark_unverified.id.to_string())
                .arg(channel.as_str())
                .arg(ms(self.age_max))
                .arg(GAP_RECORDS_MAX);
            commands
                .arg(random_suffix())
                .arg(ms(mark_unverified.since.elapsed()));
            commands.arg(mark_unverified.older.map(|id| id.to_string()).as_slice());
        }
        commands
    }

    /// Takes what was found of a channel; returns whether it has lost its end.
    fn take(&self, channel: &Channel, id: EventId, answer: Value) -> bool {
        let found = parse_verification(answer);
        let is_there = found == Ok(Verification::Present);
        let (lost, is_new) = match found {
            Ok(Verification::Present | Verification::Trimmed) => (None, false),
            Ok(Verification::AlreadyRecorded(lost)) => (Some(lost), false),
            Ok(Verification::Recorded(lost)) => (Some(lost), true),
            Err(why) => {
                tracing::debug!(%channel, %id, why, "it cannot be settled yet whether this event is still there");
                return false;
            }
        };
        if let Some(known) = self.known().get_mut(channel)
            && let Ok(place) = known.place(id)
        {
            known.unverified.remove(place);
            if is_there {
                known.verified_id = id;
            }
            if let Some(lost) = lost {
                known.observe(lost.before, Instant::now());
            }
        }
        if let Some(lost) = lost {
            tracing::warn!(
                %channel, %id, after = %lost.after, record = %lost.before,
                "Redis has lost acknowledged events: everyone who reads past them is told"
            );
        }
        if is_new {
            self.metrics.gap_recorded();
        }
        lost.is_some()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Channel, KnownIds>> {
        // No code panics while it holds this lock, and the map is valid at every step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For an id that no other node chooses, together with the millisecond in which it is chosen.
pub(super) fn random_suffix() -> u32 {
    rand::rng().random_range(0..1_000_000)
}

/// Forgets the half that was quiet for longest, but nothing that is in doubt.
fn forget_half(all: &mut HashMap<Channel, KnownIds>) {
    let mut newest: Vec<EventId> = all.values().map(|known| known.newest.0).collect();
    let middle = newest.len() / 2;
    if let Some((_, middle, _)) = (!newest.is_empty()).then(|| newest.select_nth_unstable(middle)) {
        let middle = *middle;
        all.retain(|_, known| known.newest.0 > middle || !known.unverified.is_empty());
    }
}

/// What the script answered; words if it could not do its work.
fn parse_verification(answer: Value) -> Result<Verification, String> {
    let answer: Vec<String> = redis::from_redis_value(answer).map_err(|error| error.to_string())?;
    let words: Vec<&str> = answer.iter().map(String::as_str).collect();
    let lost = |before: &str, after: &str| -> Result<Lost, String> {
        let id = |text: &str| text.parse().map_err(|_| format!("{text:?} is no id"));
        Ok(Lost {
            after: id(after)?,
            before: id(before)?,
        })
    };
    match words.as_slice() {
        ["there"] => Ok(Verification::Present),
        ["trimmed"] => Ok(Verification::Trimmed),
        ["told", record, after] => lost(record, after).map(Verification::AlreadyRecorded),
        ["wrote", record, after] => lost(record, after).map(Verification::Recorded),
        _ => Err(format!("Redis answered {words:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(channels_max: usize) -> LossDetector {
        let names = Names {
            prefix: "sse:".to_owned(),
        };
        LossDetector::new(names, Duration::from_hours(1), channels_max, Metrics::new())
    }

    fn channel(number: u64) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    /// The milliseconds of those of the first channel.
    fn unverified(losses: &LossDetector) -> Vec<u64> {
        losses.known()[&channel(1)]
            .unverified_ids()
            .map(|mark_unverified| mark_unverified.id.ms)
            .collect()
    }

    #[test]
    fn the_newest_channels_are_remembered_and_never_more_than_the_limit() {
        let losses = losses(10);
        for number in 1..=1000 {
            losses.observe(&channel(number), EventId::new(number, 0), 0);
            assert!(losses.known().len() <= 10);
        }
        losses.observe(&channel(2000), EventId::ZERO, 0);
        assert!(
            losses.known().contains_key(&channel(1000))
                && !losses.known().contains_key(&channel(2000))
        );
    }

    #[test]
    fn what_is_in_doubt_is_neither_overwritten_nor_forgotten() {
        let losses = losses(4);
        losses.observe(&channel(1), EventId::new(1, 0), losses.era());
        losses.mark_all_unverified();
        for number in 1..100 {
            losses.observe(
                &channel(number),
                EventId::new(100 + number, 0),
                losses.era(),
            );
        }
        losses.mark_all_unverified();
        assert_eq!(unverified(&losses), [1, 101]);
        let record = ["wrote", "200-0", "0-0"]
            .map(|word| Value::SimpleString(word.to_owned()))
            .to_vec();
        assert!(losses.take(&channel(1), EventId::new(1, 0), Value::Array(record)));
        assert_eq!(losses.known()[&channel(1)].newest.0, EventId::new(200, 0));
        assert_eq!(unverified(&losses), [101]);
    }

    #[test]
    fn an_answer_that_comes_after_the_look_is_in_doubt() {
        let losses = losses(4);
        let era = losses.era();
        losses.observe(&channel(1), EventId::new(1, 0), era);
        losses.mark_all_unverified();
        assert!(!losses.take(
            &channel(1),
            EventId::new(1, 0),
            Value::Array(vec![Value::SimpleString("there".into())])
        ));
        losses.observe(&channel(1), EventId::new(2, 0), era);
        losses.observe(&channel(1), EventId::new(3, 0), losses.era());
        let known = losses.known()[&channel(1)].clone();
        let mark_unverified = known.unverified_ids().next().unwrap();
        assert_eq!(
            (known.newest.0, mark_unverified.id),
            (EventId::new(3, 0), EventId::new(2, 0))
        );
        assert_eq!(mark_unverified.older, [EventId::new(1, 0); 3]);
    }

    #[test]
    fn every_era_that_is_not_settled_has_its_own_doubt() {
        let losses = losses(4);
        for number in 1..=3 {
            losses.observe(&channel(1), EventId::new(number, 0), losses.era());
            losses.mark_all_unverified();
        }
        let there = || Value::Array(vec![Value::SimpleString("there".into())]);
        assert!(!losses.take(&channel(1), EventId::new(1, 0), there()));
        assert_eq!(unverified(&losses), [2, 3]);
        for number in 4..100 {
            losses.observe(&channel(1), EventId::new(number, 0), losses.era());
            losses.mark_all_unverified();
        }
        assert_eq!(unverified(&losses), [2, 93, 94, 95, 96, 97, 98, 99]);
        // An id that is not older is none to go back to.
        losses.observe(&channel(2), EventId::new(5, 0), losses.era());
        losses.observe(&channel(2), EventId::new(4, 0), losses.era() - 1);
        let known = losses.known()[&channel(2)].clone();
        assert_eq!(
            known.unverified_ids().next().unwrap().older,
            [EventId::ZERO; 3]
        );
    }

    #[test]
    fn older_ids_are_known_too() {
        let (id, start) = (|number| EventId::new(number, 0), Instant::now());
        let mut known = KnownIds::first(id(0), start);
        for second in 1..=45 {
            known.observe(id(second), start + Duration::from_secs(second));
        }
        known.mark_unverified(known.newest.0, known.newest.1);
        assert_eq!(
            known.unverified_ids().next().unwrap().older,
            [id(39), id(29), id(0)]
        );
    }
}
