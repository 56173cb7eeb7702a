//! Channels as Redis Streams: `XADD`, `XRANGE`, `XREVRANGE`, `XINFO STREAM`; and the clock of that Redis.
//!
//! An entry has the fields `event` and `data`; others are ignored, so that a newer node may add some. A publish is one
//! pipeline of `XADD` and the `PUBLISH` that rings; a batch is one `MULTI`/`EXEC`. The first one to a channel on each
//! connection goes through the script of `idempotency`, which sees to it that no id is given out again that Redis has lost.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use redis::{FromRedisValue, Pipeline, RedisError, Value};
use sse_proto::{
    Channel, Event, EventId, Position,
    api::{Gap, GapReason, Lost},
};

use super::{
    Names,
    connection::{Connection, Session},
    durability,
    failover::LossDetector,
};
use crate::broker::{
    Appended, BackPage, BrokerError, Continuity, Page, PageLimits, ReadFrom, Retention, Settled,
    Stored, Warning,
    continuity::{Extent, Trimmed, judge, judge_time},
    idempotency::AppendItem,
};

/// Entries that one `XRANGE` asks for: their size is not known before, so it goes by those of the last read.
const ENTRIES_PER_READ: RangeInclusive<usize> = 8..=512;

/// How far the clock of Redis must be past an id before no event up to it is expected any more: the clock may be set
/// back a little, or a replica whose clock is behind may be promoted.
const SETTLED_AFTER_MS: u64 = 1000;

/// The streams of one Redis.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) connection: Connection,
    pub(super) names: Names,
    pub(super) retention: Retention,
    /// What must still be there after the next reconnect.
    pub(super) losses: Arc<LossDetector>,
    /// Emptied now and then: another node may have forgotten a channel.
    begun: Mutex<Begun>,
    /// How the entries of a channel turned out to be, for the size of the next read.
    sizes: Mutex<HashMap<Channel, Sizes>>,
}

/// Channels that got an event from this node on its connection of one era. They are in the registry, and all ids that
/// Redis gives out in them now are above those that it has lost, if it has; see `append_idempotent.lua`.
#[derive(Debug, Default)]
struct Begun {
    era: u64,
    channels: HashSet<Channel>,
}

/// What the last read of a channel says of the next one.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Entries that were asked for.
    count: usize,
    /// Bytes of the largest one.
    largest: usize,
}

/// How a run of entries joins what was asked for, the entries, and the last id of the stream if there are none.
type Run = (Continuity, Vec<Stored>, EventId);

/// What is known of a stream around the moment of a read.
struct KnownKey {
    /// Its last id before the read: the read has seen everything up to here.
    last: EventId,
    /// Its extent after the read: what was not trimmed by then, the read has seen too.
    after: Extent,
}

impl Log {
    pub(super) fn new(
        connection: Connection,
        names: Names,
        retention: Retention,
        losses: Arc<LossDetector>,
    ) -> Self {
        Self {
            connection,
            names,
            retention,
            losses,
            begun: Mutex::default(),
            sizes: Mutex::default(),
        }
    }

    pub(super) async fn append(
        &self,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let session = &mut self.connection.session().await?;
        if self.has_begun(channel, session) {
            return self.add(channel, &events, session).await;
        }
        let placed = self
            .append_items(
                channel,
                &[AppendItem {
                    events,
                    idempotency: None,
                }],
                session,
            )
            .await?;
        Ok(placed
            .first()
            .ok_or_else(|| garbled("no ids for a publish"))?
            .ids)
    }

    async fn add(
        &self,
        channel: &Channel,
        events: &[Event],
        session: &mut Session<'_>,
    ) -> Result<Appended, BrokerError> {
        let stream = self.names.stream(channel);
        let mut commands = redis::pipe();
        if events.len() > 1 {
            commands.atomic();
        }
        for event in events {
            commands
                .cmd("XADD")
                .arg(&stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(self.retention.events_max.get())
                .arg("*")
                .arg("event")
                .arg(event.kind.as_str())
                .arg("data")
                .arg(event.data.as_bytes().as_ref());
        }
        commands.cmd("PUBLISH").arg(&stream).arg("");
        // The bell may fail (a lost one costs nothing); the events must not.
        commands.ignore_errors();
        let answers: Vec<Value> = session
            .send(&commands)
            .await?
            .map_err(|error| refused(&error))?;
        let mut ids = answers.into_iter().take(events.len()).map(added_id);
        let first = ids.next().unwrap_or_else(|| added_id(Value::Nil))?;
        let mut last = first;
        for id in ids {
            last = id?;
        }
        self.losses.observe(channel, last, session.era());
        Ok(Appended { first, last })
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let count = self.entries_to_ask(channel, limits);
        // One more to see whether more follow, and one for the event at the position itself.
        let asked = count + 2;
        let session = &mut self.connection.session().await?;
        // Until it is known how they are: a read that failed for its size must not fail for ever.
        self.sizes().remove(channel);
        let (start, mut entries, last) = match from {
            ReadFrom::Oldest => self.oldest_run(channel, asked, session).await?,
            ReadFrom::Time(ms) => {
                let (entries, known) = self
                    .entries_and_extent(channel, &ms.to_string(), asked, session)
                    .await?;
                let run = (judge_time(ms, &known.after), entries, known.last);
                self.or_oldest_run(channel, asked, run, session).await?
            }
            ReadFrom::Position(position) => {
                self.run_after(channel, position, asked, session).await?
            }
        };
        let largest = entries.iter().map(Stored::size).max().unwrap_or(0);
        if largest > 0 {
            self.sizes()
                .insert(channel.clone(), Sizes { count, largest });
        }
        let fit = PageLimits {
            events_max: count,
            ..limits
        }
        .fit(entries.iter().map(Stored::size));
        let more = entries.len() > fit;
        entries.truncate(fit);
        if let Some(entry) = entries.last() {
            self.losses.observe(channel, entry.id, session.era());
        }
        let last = entries.last().map_or(last, |entry| entry.id.max(last));
        Ok(Page {
            start,
            events: entries,
            more,
            last,
        })
    }

    /// What follows a position. The common case, that its event is still there, is proved by the same `XRANGE`.
    async fn run_after(
        &self,
        channel: &Channel,
        position: Position,
        asked: usize,
        session: &mut Session<'_>,
    ) -> Result<Run, BrokerError> {
        let (Position::After(id) | Position::At(id)) = position;
        let is_present = |entries: &[Stored]| entries.first().is_some_and(|entry| entry.id == id);
        let mut entries = self
            .entries(channel, &id.to_string(), asked, session)
            .await?;
        let mut start = Continuity::Contiguous;
        let mut last = id;
        if is_present(&entries) {
            self.losses.observe(channel, id, session.era());
        }
        if !is_present(&entries) {
            let known;
            (entries, known) = self
                .entries_and_extent(channel, &id.to_string(), asked, session)
                .await?;
            start = judge(position, is_present(&entries), &known.after);
            last = known.last;
        }
        if let Continuity::Gap {
            reason: GapReason::LostTail | GapReason::Unknown,
            ..
        } = start
            && let Some(run) = self
                .run_instead_of_lost(channel, position, start, asked, session)
                .await?
        {
            return Ok(run);
        }
        entries.retain(|entry| entry.id > position.floor());
        self.or_oldest_run(channel, asked, (start, entries, last), session)
            .await
    }

    /// Where a position lies among lost events of which there is a record, what came after all that was not lost.
    async fn run_instead_of_lost(
        &self,
        channel: &Channel,
        position: Position,
        start: Continuity,
        asked: usize,
        session: &mut Session<'_>,
    ) -> Result<Option<Run>, BrokerError> {
        let Continuity::Gap { reason, .. } = start else {
            return Ok(None);
        };
        if reason == GapReason::LostTail {
            // Without a reconnect, or before its look: what this node knows may be lost as well, and not recorded yet.
            session.verify(channel, &self.losses).await?;
        }
        let (Position::After(id) | Position::At(id)) = position;
        let records = self.records_after(channel, id, session).await?;
        let Some(lost) = records.into_iter().find(|lost| lost.has(id)) else {
            return Ok(None);
        };
        let begin = format!("({}", lost.after);
        let (entries, known) = self
            .entries_and_extent(channel, &begin, asked, session)
            .await?;
        // Its record must be there: the stream may be another one since.
        let is_kept = known
            .after
            .oldest
            .is_some_and(|oldest| oldest <= lost.before)
            && known.last >= lost.before;
        let oldest = entries.first().map(|entry| entry.id);
        let start = Continuity::Gap {
            reason: GapReason::LostTail,
            oldest,
            lost: Some(lost),
        };
        Ok(is_kept.then_some((start, entries, known.last)))
    }

    /// What the records of losses say whose ids are above this one.
    async fn records_after(
        &self,
        channel: &Channel,
        id: EventId,
        session: &mut Session<'_>,
    ) -> Result<Vec<Lost>, BrokerError> {
        // Redis refuses a range after the highest id there can be.
        let Some(next) = id.next() else {
            return Ok(Vec::new());
        };
        let mut commands = redis::pipe();
        commands
            .cmd("XRANGE")
            .arg(self.names.gaps(channel))
            .arg(next.to_string())
            .arg("+");
        let (records,): (Value,) = session.query(&commands).await?;
        Ok(records_of(records))
    }

    /// After a gap, history begins with the oldest event that is kept.
    async fn or_oldest_run(
        &self,
        channel: &Channel,
        asked: usize,
        run: Run,
        session: &mut Session<'_>,
    ) -> Result<Run, BrokerError> {
        let (Continuity::Gap { reason, .. }, ..) = run else {
            return Ok(run);
        };
        let (_, entries, last) = self.oldest_run(channel, asked, session).await?;
        let oldest = entries.first().map(|entry| entry.id);
        Ok((
            Continuity::Gap {
                reason,
                oldest,
                lost: None,
            },
            entries,
            last,
        ))
    }

    async fn oldest_run(
        &self,
        channel: &Channel,
        asked: usize,
        session: &mut Session<'_>,
    ) -> Result<Run, BrokerError> {
        let (entries, known) = self
            .entries_and_extent(channel, "-", asked, session)
            .await?;
        Ok((Continuity::Contiguous, entries, known.last))
    }

    /// How many entries will fill a page, by those of the last read; carefully more than last time.
    fn entries_to_ask(&self, channel: &Channel, limits: PageLimits) -> usize {
        let (least, most) = (*ENTRIES_PER_READ.start(), *ENTRIES_PER_READ.end());
        let fitting = self.sizes().get(channel).map_or(least, |sizes| {
            let by_size = limits.bytes_max / sizes.largest.max(1);
            by_size.min(sizes.count.saturating_mul(4))
        });
        fitting.clamp(least, most).min(limits.events_max)
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<Channel, Sizes>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `XRANGE` from `begin` on.
    async fn entries(
        &self,
        channel: &Channel,
        begin: &str,
        count: usize,
        session: &mut Session<'_>,
    ) -> Result<Vec<Stored>, BrokerError> {
        let mut commands = redis::pipe();
        // An error is told all the same, without a walk through every value of a good answer to look for one.
        commands.ignore_errors();
        commands
            .cmd("XRANGE")
            .arg(self.names.stream(channel))
            .arg(begin)
            .arg("+")
            .arg("COUNT")
            .arg(count);
        let (entries,): (Value,) = session.query(&commands).await?;
        entries_of(entries)
    }

    /// `XRANGE` from `begin` on, between two looks at the stream's extent. (Not in a `MULTI`, which a Redis at its
    /// `maxmemory` refuses even for reading.)
    async fn entries_and_extent(
        &self,
        channel: &Channel,
        begin: &str,
        count: usize,
        session: &mut Session<'_>,
    ) -> Result<(Vec<Stored>, KnownKey), BrokerError> {
        let stream = self.names.stream(channel);
        let mut commands = redis::pipe();
        commands.ignore_errors();
        commands.cmd("XINFO").arg("STREAM").arg(&stream);
        commands
            .cmd("XRANGE")
            .arg(&stream)
            .arg(begin)
            .arg("+")
            .arg("COUNT")
            .arg(count);
        commands.cmd("XINFO").arg("STREAM").arg(&stream);
        let answers: Vec<Value> = session.query(&commands).await?;
        let [before, entries, after] =
            <[Value; 3]>::try_from(answers).map_err(|_| garbled("too few answers"))?;
        Ok((
            entries_of(entries)?,
            KnownKey {
                last: extent_of(before)?.last,
                after: extent_of(after)?,
            },
        ))
    }

    /// Reads backwards. Trimming under our hands takes from the end of the run, where the next page would begin.
    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        let count = self.entries_to_ask(channel, limits);
        self.sizes().remove(channel);
        let newest = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        let stream = self.names.stream(channel);
        let mut commands = redis::pipe();
        commands.ignore_errors();
        commands.cmd("XINFO").arg("STREAM").arg(&stream);
        commands
            .cmd("XREVRANGE")
            .arg(&stream)
            .arg(newest)
            .arg("-")
            .arg("COUNT")
            .arg(count + 1);
        let answers: Vec<Value> = self.query(&commands).await?;
        let [info, entries] =
            <[Value; 2]>::try_from(answers).map_err(|_| garbled("too few answers"))?;
        let (last, mut events) = (extent_of(info)?.last, entries_of(entries)?);
        if let Some(largest) = events.iter().map(Stored::size).max() {
            self.sizes()
                .insert(channel.clone(), Sizes { count, largest });
        }
        let fit = PageLimits {
            events_max: count,
            ..limits
        }
        .fit(events.iter().map(Stored::size));
        let more = events.len() > fit;
        events.truncate(fit);
        let last = events.first().map_or(last, |newest| newest.id.max(last));
        Ok(BackPage { events, more, last })
    }

    /// Redis gives out ids by its own clock, one command after another: what it runs after this `TIME` is later.
    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        commands.cmd("TIME");
        commands
            .cmd("XINFO")
            .arg("STREAM")
            .arg(self.names.stream(channel));
        let answers: Vec<Value> = self.query(&commands).await?;
        let [time, info] =
            <[Value; 2]>::try_from(answers).map_err(|_| garbled("too few answers"))?;
        let (now_ms, last) = (time_ms(time)?, extent_of(info)?.last);
        let settled_ms = bound.ms.saturating_add(SETTLED_AFTER_MS);
        if last >= bound || now_ms > settled_ms {
            return Ok(Settled::Through(last));
        }
        Ok(Settled::NotFor(Duration::from_millis(
            (settled_ms - now_ms).saturating_add(1),
        )))
    }

    /// The record of a loss of ids up to `bound`, if it comes after that. There is one at the most: a later loss that goes
    /// back so far has taken the earlier record with it.
    pub(super) async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        let session = &mut self.connection.session().await?;
        let records = self.records_after(channel, bound, session).await?;
        for lost in records.into_iter().filter(|lost| lost.after < bound) {
            let entries = self
                .entries(channel, &lost.before.to_string(), 1, session)
                .await?;
            if let Some(record) = entries.into_iter().find(|entry| entry.id == lost.before) {
                return Ok(record.gap());
            }
        }
        Ok(None)
    }

    pub(super) async fn now_ms(&self) -> Result<u64, BrokerError> {
        let mut commands = redis::pipe();
        commands.cmd("TIME");
        let (time,): (Value,) = self.query(&commands).await?;
        time_ms(time)
    }

    pub(super) async fn last_id(&self, channel: &Channel) -> Result<EventId, BrokerError> {
        let mut commands = redis::pipe();
        commands
            .cmd("XINFO")
            .arg("STREAM")
            .arg(self.names.stream(channel))
            .ignore_errors();
        let answers: Vec<Value> = self.query(&commands).await?;
        Ok(extent_of(answers.into_iter().next().unwrap_or_default())?.last)
    }

    /// A write, so that a replica, a full memory or a failing disk shows; and a look at how Redis is set up.
    pub(super) async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        let mut session = self.connection.session().await?;
        let mut commands = redis::pipe();
        commands
            .cmd("SET")
            .arg(self.names.check())
            .arg(1)
            .arg("PX")
            .arg(1000)
            .ignore();
        session.query::<()>(&commands).await?;
        session
            .query(&durability::questions())
            .await
            .map(durability::warnings)
    }

    /// Enters a channel into the registry before its first event, if there is room for one more.
    ///
    /// Nodes that enter channels at the same moment may exceed the limit by as many.
    pub(super) async fn register(
        &self,
        channel: &Channel,
        session: &mut Session<'_>,
    ) -> Result<(), BrokerError> {
        let registry = self.names.channels();
        let mut commands = redis::pipe();
        commands.cmd("ZSCORE").arg(&registry).arg(channel.as_str());
        commands.cmd("ZCARD").arg(&registry);
        let (known, channels): (Option<f64>, usize) = session.query(&commands).await?;
        if known.is_some() {
            return Ok(());
        }
        if channels >= self.retention.channels_max {
            return Err(BrokerError::Full(format!(
                "there are {channels} channels already, which is the limit (--channels-max)"
            )));
        }
        let mut commands = redis::pipe();
        let now_ms = chrono::Utc::now().timestamp_millis();
        commands
            .cmd("ZADD")
            .arg(&registry)
            .arg("NX")
            .arg(now_ms)
            .arg(channel.as_str())
            .ignore();
        session.query::<()>(&commands).await
    }

    /// Whether the channel got an event from here on this connection.
    pub(super) fn has_begun(&self, channel: &Channel, session: &Session<'_>) -> bool {
        let begun = self.begun();
        begun.era == session.era() && begun.channels.contains(channel)
    }

    /// It got one.
    pub(super) fn begin(&self, channel: &Channel, session: &Session<'_>) {
        let mut begun = self.begun();
        if begun.era < session.era() {
            *begun = Begun {
                era: session.era(),
                channels: HashSet::new(),
            };
        }
        if begun.era == session.era() {
            begun.channels.insert(channel.clone());
        }
    }

    /// Looks into the registry again before the next event of each channel, and forgets how large events are.
    pub(super) fn look_up_again(&self) {
        self.begun().channels.clear();
        self.sizes().clear();
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what changes no event, and is all there is to send.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, BrokerError> {
        self.connection.session().await?.query(commands).await
    }
}

/// What an error that Redis answered means. Where it is an answer at all, nothing was stored.
pub(super) fn refused(error: &RedisError) -> BrokerError {
    let Some(errors) = error.clone().into_server_errors() else {
        return BrokerError::OutcomeUnknown(format!(
            "Redis gave an answer that makes no sense: {error}"
        ));
    };
    // The first one is the cause; a transaction repeats it for each of its commands.
    let Some((_, first)) = errors.first() else {
        return BrokerError::Unavailable("Redis refused".to_owned());
    };
    let words = format!("{} {}", first.code(), first.details().unwrap_or_default());
    match first.code() {
        "OOM" => BrokerError::Full(format!("Redis is at its maxmemory: {words}")),
        _ => BrokerError::Unavailable(format!("Redis refused: {words}")),
    }
}

fn garbled(what: &str) -> BrokerError {
    BrokerError::Damaged(format!("Redis sent {what}"))
}

/// The id that an `XADD` answered with.
pub(super) fn added_id(answer: Value) -> Result<EventId, BrokerError> {
    if let Value::ServerError(error) = answer {
        return Err(refused(&error.into()));
    }
    let unknown = || BrokerError::OutcomeUnknown("Redis answered an XADD without an id".to_owned());
    text_of(answer)
        .and_then(|id| id.parse().ok())
        .ok_or_else(unknown)
}

/// The milliseconds of a `TIME`.
fn time_ms(answer: Value) -> Result<u64, BrokerError> {
    match answer {
        Value::ServerError(error) => Err(refused(&error.into())),
        answer => {
            let (seconds, micros): (u64, u64) =
                redis::from_redis_value(answer).map_err(|_| garbled("no time for a TIME"))?;
            Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
        }
    }
}

/// The entries of an `XRANGE`.
fn entries_of(answer: Value) -> Result<Vec<Stored>, BrokerError> {
    match answer {
        Value::Array(entries) => entries
            .into_iter()
            .map(|entry| {
                entry_of(entry).ok_or_else(|| garbled("an entry that no sse-server wrote"))
            })
            .collect(),
        Value::ServerError(error) => Err(refused(&error.into())),
        _ => Err(garbled("no entries for an XRANGE")),
    }
}

/// The ranges of the gap records in a channel's index.
fn records_of(answer: Value) -> Vec<Lost> {
    let records: Vec<(String, HashMap<String, String>)> =
        redis::from_redis_value(answer).unwrap_or_default();
    let lost = |(id, fields): &(String, HashMap<String, String>)| {
        Some(Lost {
            after: fields.get("after")?.parse().ok()?,
            before: id.parse().ok()?,
        })
    };
    records.iter().filter_map(lost).collect()
}

fn entry_of(entry: Value) -> Option<Stored> {
    let Value::Array(items) = entry else {
        return None;
    };
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(items).ok()? else {
        return None;
    };
    let (mut kind, mut data) = (None, None);
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        match name.as_slice() {
            b"event" => kind = Some(ByteString::try_from(bytes::Bytes::from(value)).ok()?),
            b"data" => data = Some(ByteString::try_from(bytes::Bytes::from(value)).ok()?),
            _ => {}
        }
    }
    Some(Stored {
        id: text_of(id)?.parse().ok()?,
        kind: kind?,
        data: data?,
    })
}

/// What `XINFO STREAM` says of a channel; one without a key never had an event.
fn extent_of(answer: Value) -> Result<Extent, BrokerError> {
    let never = Extent {
        oldest: None,
        last: EventId::ZERO,
        trimmed: Trimmed::NothingSince(EventId::ZERO),
    };
    let fields = match answer {
        Value::ServerError(error)
            if error
                .details()
                .is_some_and(|details| details.contains("no such key")) =>
        {
            return Ok(never);
        }
        Value::ServerError(error) => return Err(refused(&error.into())),
        Value::Array(fields) => fields,
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [name, value])
            .collect(), // RESP3
        _ => return Err(garbled("no answer for an XINFO")),
    };
    let mut extent = Extent {
        trimmed: Trimmed::Somewhere,
        ..never
    };
    let (mut length, mut added) = (None, None);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (text_of(name).as_deref(), value) {
            (Some("length"), Value::Int(number)) => length = Some(number),
            (Some("entries-added"), Value::Int(number)) => added = Some(number), // Redis 7.0 and later
            (Some("last-generated-id"), id) => {
                let id = text_of(id).and_then(|id| id.parse().ok());
                extent.last = id.ok_or_else(|| garbled("no last id of a stream"))?;
            }
            (Some("first-entry"), Value::Array(entry)) => {
                extent.oldest = entry
                    .into_iter()
                    .next()
                    .and_then(text_of)
                    .and_then(|id| id.parse().ok());
            }
            _ => {}
        }
    }
    if added.is_some() && added == length {
        extent.trimmed = never.trimmed;
    }
    Ok(extent)
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
