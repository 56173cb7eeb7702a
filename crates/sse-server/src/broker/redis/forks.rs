//! Finds out that Redis lost acknowledged events (a fail-over, an older snapshot), and says so in the log.
//!
//! A loss behind an id that survived proves itself to nobody: the log simply goes on. So a node remembers of each
//! channel the newest id that it saw acknowledged or read. Whenever it has connected anew, and before it publishes or
//! reads anything more, it looks whether that event is still there. If not, it appends a *gap record* with an id above the
//! lost ones: ids never go back, a lost id is not given out again, and every cursor that crosses the record is told, on
//! every node, now and at any later replay. `fork.lua` does it in one step, so that a fork has one record however many
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

const FORK: &str = include_str!("fork.lua");
/// Channels that are looked at in one pipeline.
const LOOKS_AT_ONCE: usize = 64;
/// Gap records that a channel's index keeps. Whoever stands in the range of an older one reads from the oldest event on.
const RECORDS_KEPT: usize = 32;

/// How old a channel's newest id is at least when it is kept as one that is probably in every replica.
const ANCHOR_AGE: Duration = Duration::from_secs(10);

/// Ids of a channel that may be in doubt at a time.
const DOUBTS_MAX: usize = 8;

/// What this node knows of the ends of channels.
#[derive(Debug)]
pub(super) struct Forks {
    names: Names,
    age_max: Duration,
    channels_max: usize,
    seen: Mutex<HashMap<Channel, Seen>>,
    /// How often everything was in doubt.
    era: AtomicU64,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
struct Seen {
    /// The newest id that was acknowledged or read, and when.
    newest: (EventId, Instant),
    /// Those of connections before this of which it is not known yet whether they are still there, the oldest first. Each
    /// may be there or not whatever becomes of the others: Redis may have lost its end between any two.
    doubted: SmallVec<[(EventId, Instant); 1]>,
    /// Older ones; the last that was found to be there by a look, or the first that was seen.
    found: EventId,
    /// One that was the newest when `coming_anchor` became that, and one that will take its place.
    anchor: EventId,
    coming_anchor: (EventId, Instant),
}

impl Seen {
    fn first(id: EventId, at: Instant) -> Self {
        Self {
            newest: (id, at),
            doubted: SmallVec::new(),
            found: id,
            anchor: id,
            coming_anchor: (id, at),
        }
    }

    fn saw(&mut self, id: EventId, at: Instant) {
        if id <= self.newest.0 {
            return;
        }
        if at.duration_since(self.coming_anchor.1) >= ANCHOR_AGE {
            self.anchor = self.coming_anchor.0;
            self.coming_anchor = (self.newest.0, at);
        }
        self.newest = (id, at);
    }

    fn doubt(&mut self, id: EventId, since: Instant) {
        let Err(place) = self.place(id) else { return };
        self.doubted.insert(place, (id, since));
        if self.doubted.len() > DOUBTS_MAX {
            // Not the oldest and not the newest; a loss of nothing but what lies there is found by other nodes.
            self.doubted.remove(1);
        }
    }

    /// Where an id is among those in doubt, or would be.
    fn place(&self, id: EventId) -> Result<usize, usize> {
        self.doubted.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// What is to be looked at.
    fn doubts(&self) -> impl Iterator<Item = Doubt> {
        self.doubted.iter().map(|(id, since)| {
            let known = [self.coming_anchor.0, self.anchor, self.found];
            let mut older = known.map(|known| if known < *id { known } else { EventId::ZERO });
            older.sort_unstable_by(|a, b| b.cmp(a));
            Doubt {
                id: *id,
                since: *since,
                older,
            }
        })
    }
}

/// An event that may be lost.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    id: EventId,
    /// When it was acknowledged or read.
    since: Instant,
    /// Other ids that are known, the newest first.
    older: [EventId; 3],
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    There,
    Trimmed,
    /// It is lost, and another node has recorded it.
    Told(Lost),
    /// It is lost, and this is the record.
    Wrote(Lost),
}

impl Forks {
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
            seen: Mutex::default(),
            era: AtomicU64::new(0),
            metrics,
        }
    }

    /// Counts the connections that [`doubt_all`](Self::doubt_all) was told of. To be known of a command whose answer
    /// [`saw`](Self::saw) is told.
    fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// An id of `channel` was acknowledged or read, by a command of this era. One of an era before may have been
    /// acknowledged by a connection that is gone, and come too late for the look that followed.
    pub(super) fn saw(&self, channel: &Channel, id: EventId, era: u64) {
        if id == EventId::ZERO {
            return;
        }
        let mut all = self.seen();
        let now = Instant::now();
        if !all.contains_key(channel) {
            if all.len() >= self.channels_max {
                forget_half(&mut all);
            }
            all.insert(channel.clone(), Seen::first(id, now));
        }
        if let Some(seen) = all.get_mut(channel) {
            seen.saw(id, now);
            // Under the lock, by which an era ends.
            if era != self.era() {
                seen.doubt(id, now);
            }
        }
    }

    /// It is not certain any more that Redis has what it had. Returns the era that begins.
    pub(super) fn doubt_all(&self) -> u64 {
        let mut all = self.seen();
        let era = self.era.fetch_add(1, Ordering::SeqCst) + 1;
        for seen in all.values_mut() {
            seen.doubt(seen.newest.0, seen.newest.1);
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
        let doubts: Vec<(Channel, Doubt)> = match self.seen().get_mut(channel) {
            Some(seen) => {
                seen.doubt(seen.newest.0, seen.newest.1);
                seen.doubts()
                    .map(|doubt| (channel.clone(), doubt))
                    .collect()
            }
            None => return Ok(()),
        };
        self.look_at_these(&doubts, connection).await
    }

    /// Looks at every channel that is in doubt. One that cannot be settled (Redis is a replica, or full) stays so.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn look(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut doubts = Vec::new();
        for (channel, seen) in &*self.seen() {
            doubts.extend(seen.doubts().map(|doubt| (channel.clone(), doubt)));
        }
        self.look_at_these(&doubts, connection).await
    }

    async fn look_at_these(
        &self,
        channels: &[(Channel, Doubt)],
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut lost = 0;
        for some in channels.chunks(LOOKS_AT_ONCE) {
            let answers: Vec<Value> = self.looks(some).query_async(connection).await?;
            // The first one is the script's name.
            for ((channel, doubt), answer) in some.iter().zip(answers.into_iter().skip(1)) {
                lost += usize::from(self.take(channel, doubt.id, answer));
            }
        }
        if lost > 0 {
            self.metrics.forked();
        }
        Ok(())
    }

    fn looks(&self, channels: &[(Channel, Doubt)]) -> Pipeline {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        commands.cmd("SCRIPT").arg("LOAD").arg(FORK);
        let script = redis::Script::new(FORK);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for (channel, doubt) in channels {
            commands.cmd("EVALSHA").arg(script.get_hash()).arg(2);
            commands
                .arg(self.names.stream(channel))
                .arg(self.names.gaps(channel));
            commands
                .arg(doubt.id.to_string())
                .arg(channel.as_str())
                .arg(ms(self.age_max))
                .arg(RECORDS_KEPT);
            commands
                .arg(one_of_a_million())
                .arg(ms(doubt.since.elapsed()));
            commands.arg(doubt.older.map(|id| id.to_string()).as_slice());
        }
        commands
    }

    /// Takes what was found of a channel; returns whether it has lost its end.
    fn take(&self, channel: &Channel, id: EventId, answer: Value) -> bool {
        let found = found(answer);
        let is_there = found == Ok(Found::There);
        let (lost, is_new) = match found {
            Ok(Found::There | Found::Trimmed) => (None, false),
            Ok(Found::Told(lost)) => (Some(lost), false),
            Ok(Found::Wrote(lost)) => (Some(lost), true),
            Err(why) => {
                tracing::debug!(%channel, %id, why, "it cannot be settled yet whether this event is still there");
                return false;
            }
        };
        if let Some(seen) = self.seen().get_mut(channel)
            && let Ok(place) = seen.place(id)
        {
            seen.doubted.remove(place);
            if is_there {
                seen.found = id;
            }
            if let Some(lost) = lost {
                seen.saw(lost.before, Instant::now());
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

    fn seen(&self) -> MutexGuard<'_, HashMap<Channel, Seen>> {
        // No code panics while it holds this lock, and the map is valid at every step.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For an id that no other node chooses, together with the millisecond in which it is chosen.
pub(super) fn one_of_a_million() -> u32 {
    rand::rng().random_range(0..1_000_000)
}

/// Forgets the half that was quiet for longest, but nothing that is in doubt.
fn forget_half(all: &mut HashMap<Channel, Seen>) {
    let mut newest: Vec<EventId> = all.values().map(|seen| seen.newest.0).collect();
    let middle = newest.len() / 2;
    if let Some((_, middle, _)) = (!newest.is_empty()).then(|| newest.select_nth_unstable(middle)) {
        let middle = *middle;
        all.retain(|_, seen| seen.newest.0 > middle || !seen.doubted.is_empty());
    }
}

/// What the script answered; words if it could not do its work.
fn found(answer: Value) -> Result<Found, String> {
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
        ["there"] => Ok(Found::There),
        ["trimmed"] => Ok(Found::Trimmed),
        ["told", record, after] => lost(record, after).map(Found::Told),
        ["wrote", record, after] => lost(record, after).map(Found::Wrote),
        _ => Err(format!("Redis answered {words:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forks(channels_max: usize) -> Forks {
        let names = Names {
            prefix: "sse:".to_owned(),
        };
        Forks::new(names, Duration::from_hours(1), channels_max, Metrics::new())
    }

    fn channel(number: u64) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    /// The milliseconds of those of the first channel.
    fn doubted(forks: &Forks) -> Vec<u64> {
        forks.seen()[&channel(1)]
            .doubts()
            .map(|doubt| doubt.id.ms)
            .collect()
    }

    #[test]
    fn the_newest_channels_are_remembered_and_never_more_than_the_limit() {
        let forks = forks(10);
        for number in 1..=1000 {
            forks.saw(&channel(number), EventId::new(number, 0), 0);
            assert!(forks.seen().len() <= 10);
        }
        forks.saw(&channel(2000), EventId::ZERO, 0);
        assert!(
            forks.seen().contains_key(&channel(1000)) && !forks.seen().contains_key(&channel(2000))
        );
    }

    #[test]
    fn what_is_in_doubt_is_neither_overwritten_nor_forgotten() {
        let forks = forks(4);
        forks.saw(&channel(1), EventId::new(1, 0), forks.era());
        forks.doubt_all();
        for number in 1..100 {
            forks.saw(&channel(number), EventId::new(100 + number, 0), forks.era());
        }
        forks.doubt_all();
        assert_eq!(doubted(&forks), [1, 101]);
        let record = ["wrote", "200-0", "0-0"]
            .map(|word| Value::SimpleString(word.to_owned()))
            .to_vec();
        assert!(forks.take(&channel(1), EventId::new(1, 0), Value::Array(record)));
        assert_eq!(forks.seen()[&channel(1)].newest.0, EventId::new(200, 0));
        assert_eq!(doubted(&forks), [101]);
    }

    #[test]
    fn an_answer_that_comes_after_the_look_is_in_doubt() {
        let forks = forks(4);
        let era = forks.era();
        forks.saw(&channel(1), EventId::new(1, 0), era);
        forks.doubt_all();
        assert!(!forks.take(
            &channel(1),
            EventId::new(1, 0),
            Value::Array(vec![Value::SimpleString("there".into())])
        ));
        forks.saw(&channel(1), EventId::new(2, 0), era);
        forks.saw(&channel(1), EventId::new(3, 0), forks.era());
        let seen = forks.seen()[&channel(1)].clone();
        let doubt = seen.doubts().next().unwrap();
        assert_eq!(
            (seen.newest.0, doubt.id),
            (EventId::new(3, 0), EventId::new(2, 0))
        );
        assert_eq!(doubt.older, [EventId::new(1, 0); 3]);
    }

    #[test]
    fn every_era_that_is_not_settled_has_its_own_doubt() {
        let forks = forks(4);
        for number in 1..=3 {
            forks.saw(&channel(1), EventId::new(number, 0), forks.era());
            forks.doubt_all();
        }
        let there = || Value::Array(vec![Value::SimpleString("there".into())]);
        assert!(!forks.take(&channel(1), EventId::new(1, 0), there()));
        assert_eq!(doubted(&forks), [2, 3]);
        for number in 4..100 {
            forks.saw(&channel(1), EventId::new(number, 0), forks.era());
            forks.doubt_all();
        }
        assert_eq!(doubted(&forks), [2, 93, 94, 95, 96, 97, 98, 99]);
        // An id that is not older is none to go back to.
        forks.saw(&channel(2), EventId::new(5, 0), forks.era());
        forks.saw(&channel(2), EventId::new(4, 0), forks.era() - 1);
        let seen = forks.seen()[&channel(2)].clone();
        assert_eq!(seen.doubts().next().unwrap().older, [EventId::ZERO; 3]);
    }

    #[test]
    fn older_ids_are_known_too() {
        let (id, start) = (|number| EventId::new(number, 0), Instant::now());
        let mut seen = Seen::first(id(0), start);
        for second in 1..=45 {
            seen.saw(id(second), start + Duration::from_secs(second));
        }
        seen.doubt(seen.newest.0, seen.newest.1);
        assert_eq!(seen.doubts().next().unwrap().older, [id(39), id(29), id(0)]);
    }
}
