//! Checks the guarantees: compares what publishers sent with what each listener received. Pure.
//!
//! - Every listener that follows an acknowledged event's channel and type received the event once
//!   and in the channel's order, or a gap that the listener received covers it.
//! - A gap that reports lost events excuses only events that the log really lost.
//! - Where the log lost events of a channel, a gap without a range may send a listener back to the
//!   oldest event kept, because a node that did not know the lost ids cannot determine how far back
//!   is enough. The history then repeats, in order.
//! - No listener received an event that was not published, or whose publish was rejected.
//! - An event of unknown outcome was received once by all listeners that follow it, or by no
//!   listener.
//! - The ids of a channel only grow, for every listener, and equal those in the publishers'
//!   responses.
//! - An event sent after the response to another event has a greater id in the channel (the numbers
//!   of a [`Stamp`](sse_proto::record::Stamp) grow along a lane of such events).
//!
//! First the [`Ledger`] takes the publishers' records and the events that the log lost, then
//! [`Ledger::follow`] takes each listener's record, and [`Ledger::conclude`] compares them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::Gap,
    record::{Outcome, Received, Sent},
};

/// Breaches listed individually, per kind.
const TOLD_MAX: usize = 5;

/// An event that the log had and then lost, because a failover went back to before the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostEvent {
    /// The event's channel.
    pub(crate) channel: Channel,
    /// The event's id in the channel.
    pub(crate) id: EventId,
    /// Publisher in the event's [`Stamp`](sse_proto::record::Stamp).
    pub(crate) publisher: String,
    /// Sequence number in the same stamp.
    pub(crate) sequence: u64,
    /// The primary may have stored it when another one had its role already: a publish that was
    /// waiting in the socket of a stopped process.
    pub(crate) is_late: bool,
}

/// What a listener follows, and the position from which on it is owed every event.
#[derive(Debug, Clone)]
pub(crate) struct Follows {
    /// Name for the report.
    pub(crate) name: String,
    /// Channels that the listener follows.
    pub(crate) channels: Vec<Channel>,
    /// Event types that the listener follows; all if empty.
    pub(crate) kinds: Vec<String>,
    /// Position at which the listener joined.
    pub(crate) joined: Joined,
}

/// Position at which a listener joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Before the first publish.
    BeforeAll,
    /// At this position, which the server sent.
    After(Cursor),
}

/// All published events, and the breaches found so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    events: Vec<Event>,
    by_stamp: HashMap<(String, u64), usize>,
    breaches: Breaches,
}

#[derive(Debug)]
struct Event {
    channel: Channel,
    kind: String,
    acknowledged: bool,
    lost: bool,
    /// See [`LostEvent::is_late`].
    lost_late: bool,
    /// Id in the response to the publisher. If the outcome is unknown, the id that the first
    /// listener received.
    id: Option<EventId>,
}

/// What one listener received.
#[derive(Debug)]
pub(crate) struct Seen {
    follows: Follows,
    /// Indexes of received events, each with the last round in which it was received.
    events: BTreeMap<usize, u32>,
    /// Number of times that history restarted, per channel.
    rounds: BTreeMap<Channel, u32>,
    gaps: Vec<Told>,
    /// Number of events received, including wrong ones.
    pub(crate) deliveries: u64,
}

/// A gap, as a range of one channel: after the first id and before the second.
#[derive(Debug)]
struct Told {
    channel: Channel,
    after: EventId,
    before: Option<EventId>,
    /// The gap reports that the log lost the events of the range, and no others.
    of_lost: bool,
}

/// Broken guarantees, by kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Breaches(BTreeMap<Breach, Vec<String>>);

/// Kinds of broken guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// An acknowledged event was not received, and no gap covers it.
    Lost,
    /// An event was received twice.
    Repeated,
    /// An id is not greater than the previous id in its channel.
    Disordered,
    /// An event was received that was not published, was rejected, or has another channel or type.
    Foreign,
    /// An event's id differs from the id in the publisher's response, or two events share an id.
    WrongId,
    /// An event of unknown outcome was received by some listeners but not by others.
    Uneven,
    /// A record is unreadable, a listener did not catch up, or a process ended by itself.
    Trouble,
}

/// Figures of a whole run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Acknowledged events.
    pub(crate) acknowledged: u64,
    /// Events of unknown outcome.
    pub(crate) unknown: u64,
    /// Events of unknown outcome that were stored.
    pub(crate) unknown_stored: u64,
    /// Events that listeners received.
    pub(crate) deliveries: u64,
    /// Events that listeners were owed, counted per listener.
    pub(crate) due: u64,
    /// Owed events that lie in gaps.
    pub(crate) in_gaps: u64,
    /// Gaps that listeners received.
    pub(crate) gaps: u64,
    /// Acknowledged events that the log lost.
    pub(crate) lost: u64,
    /// Number of times that history restarted for a listener.
    pub(crate) rounds: u64,
}

impl Breaches {
    /// Adds a breach.
    pub(crate) fn add(&mut self, breach: Breach, what: String) {
        self.0.entry(breach).or_default().push(what);
    }

    /// Adds several breaches of one kind.
    pub(crate) fn add_all(&mut self, breach: Breach, what: impl IntoIterator<Item = String>) {
        for one in what {
            self.add(breach, one);
        }
    }

    /// Adds all breaches of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        for (breach, all) in other.0 {
            self.0.entry(breach).or_default().extend(all);
        }
    }

    /// Returns true if there are no breaches.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the kinds of breaches that occurred.
    pub(crate) fn kinds(&self) -> Vec<Breach> {
        self.0.keys().copied().collect()
    }

    /// Returns lines for the report: the number of breaches per kind, and the first few of each
    /// kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (breach, all) in &self.0 {
            lines.push(format!("{breach:?}: {}", all.len()));
            lines.extend(all.iter().take(TOLD_MAX).map(|one| format!("    {one}")));
        }
        lines
    }
}

impl Ledger {
    /// Adds a line of a publisher's record; the publisher publishes events of type `kind`.
    pub(crate) fn sent(&mut self, kind: &str, sent: Sent) {
        let acknowledged = sent.outcome == Outcome::Acknowledged;
        let id = sent.id.as_deref().and_then(|id| id.parse().ok());
        if sent.id.is_some() && id.is_none() {
            let what = format!(
                "{} {} is acknowledged with the id {:?}",
                sent.publisher, sent.sequence, sent.id
            );
            self.breaches.add(Breach::WrongId, what);
        }
        let number = self.events.len();
        if self
            .by_stamp
            .insert((sent.publisher, sent.sequence), number)
            .is_some()
        {
            self.breaches.add(
                Breach::Trouble,
                format!("a record has event {} twice", sent.sequence),
            );
        }
        self.events.push(Event {
            channel: sent.channel.parse().expect("a channel"),
            kind: kind.to_owned(),
            acknowledged,
            lost: false,
            lost_late: false,
            id,
        });
    }

    /// Adds an event that the log lost. Call this after all sent events are added, because for an
    /// event of a batch only the log may know the id.
    pub(crate) fn lost(&mut self, lost: LostEvent) {
        let LostEvent {
            channel,
            id,
            publisher,
            sequence,
            is_late,
        } = lost;
        let Some(&number) = self.by_stamp.get(&(publisher, sequence)) else {
            self.breaches.add(
                Breach::Foreign,
                format!("{channel} had {id}, which was refused or never sent"),
            );
            return;
        };
        let event = &mut self.events[number];
        event.lost = true;
        event.lost_late = is_late;
        if event.channel != channel || *event.id.get_or_insert(id) != id {
            let what = format!(
                "{channel} had {id}, which others know as {:?} of {}",
                event.id, event.channel
            );
            self.breaches.add(Breach::WrongId, what);
        }
    }

    /// Adds everything that a listener recorded, in order.
    pub(crate) fn follow(
        &mut self,
        follows: Follows,
        received: impl IntoIterator<Item = Received>,
    ) -> Seen {
        let (events, rounds) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = Seen {
            follows,
            events,
            rounds,
            gaps: Vec::new(),
            deliveries: 0,
        };
        let mut newest: HashMap<Channel, EventId> = HashMap::new();
        for line in received {
            match line {
                Received::Gap { id, gap } => {
                    if let (None, Some(oldest)) = (gap.lost, gap.oldest)
                        && newest
                            .get(&gap.channel)
                            .is_some_and(|newest| *newest >= oldest)
                        && self
                            .events
                            .iter()
                            .any(|event| event.lost && event.channel == gap.channel)
                    {
                        newest.remove(&gap.channel);
                        *seen.rounds.entry(gap.channel.clone()).or_default() += 1;
                    }
                    seen.gap(&id, gap);
                }
                Received::Event {
                    id, event, stamp, ..
                } => {
                    seen.deliveries += 1;
                    let name = &seen.follows.name;
                    let stamp = stamp.map(|stamp| (stamp.publisher, stamp.sequence));
                    let Some(&number) = stamp.as_ref().and_then(|stamp| self.by_stamp.get(stamp))
                    else {
                        let what =
                            format!("{name} got {id} ({stamp:?}), which was refused or never sent");
                        self.breaches.add(Breach::Foreign, what);
                        continue;
                    };
                    self.take(&mut seen, &mut newest, number, &id, &event);
                }
            }
        }
        seen
    }

    /// Adds one event of a listener.
    fn take(
        &mut self,
        seen: &mut Seen,
        newest: &mut HashMap<Channel, EventId>,
        number: usize,
        id: &str,
        kind: &str,
    ) {
        let (event, name) = (&mut self.events[number], &seen.follows.name);
        if !seen.follows.wants(event) || event.kind != kind {
            let what = format!(
                "{name} got {id}, a {kind} of {} ({} was published)",
                event.channel, event.kind
            );
            self.breaches.add(Breach::Foreign, what);
            return;
        }
        let position = id
            .parse::<Cursor>()
            .ok()
            .and_then(|cursor| cursor.position_in(&event.channel));
        let Some(Position::After(at)) = position else {
            self.breaches.add(
                Breach::WrongId,
                format!(
                    "{name} got an event of {} with the id {id:?}",
                    event.channel
                ),
            );
            return;
        };
        if *event.id.get_or_insert(at) != at {
            let what = format!(
                "{name} got {at} of {}, which others know as {:?}",
                event.channel, event.id
            );
            self.breaches.add(Breach::WrongId, what);
        }
        let round = seen.rounds.get(&event.channel).copied().unwrap_or(0);
        if seen.events.insert(number, round) == Some(round) {
            self.breaches.add(
                Breach::Repeated,
                format!("{name} got {at} of {} again", event.channel),
            );
        } else if let Some(before) = newest.get(&event.channel)
            && at <= *before
        {
            self.breaches.add(
                Breach::Disordered,
                format!("{name} got {at} of {} after {before}", event.channel),
            );
        }
        newest.insert(event.channel.clone(), at);
    }

    /// Compares what all listeners received with what was published.
    pub(crate) fn conclude(mut self, all: &[Seen]) -> (Figures, Breaches) {
        let mut figures = Figures {
            deliveries: all.iter().map(|seen| seen.deliveries).sum(),
            gaps: all.iter().map(|seen| seen.gaps.len() as u64).sum(),
            rounds: all
                .iter()
                .flat_map(|seen| seen.rounds.values())
                .map(|rounds| u64::from(*rounds))
                .sum(),
            ..Figures::default()
        };
        let mut ids = BTreeSet::new();
        for (number, event) in self.events.iter().enumerate() {
            *(if event.acknowledged {
                &mut figures.acknowledged
            } else {
                &mut figures.unknown
            }) += 1;
            let Some(id) = event.id else {
                // The response to a batch has no id per event, so the id comes from the first
                // listener.
                if event.acknowledged && all.iter().any(|seen| seen.follows.wants(event)) {
                    self.breaches.add(
                        Breach::Lost,
                        format!("no subscriber got event {number} of {}", event.channel),
                    );
                }
                continue;
            };
            figures.unknown_stored += u64::from(!event.acknowledged);
            figures.lost += u64::from(event.acknowledged && event.lost);
            if !ids.insert((event.channel.clone(), id)) {
                self.breaches.add(
                    Breach::WrongId,
                    format!("two events of {} have the id {id}", event.channel),
                );
            }
            // If no publisher and no subscriber has learned of a late event, its loss needs no report.
            let was_received = all.iter().any(|seen| seen.events.contains_key(&number));
            if event.lost_late && !event.acknowledged && !was_received {
                continue;
            }
            for seen in all
                .iter()
                .filter(|seen| seen.follows.wants(event) && seen.follows.joined_before(event, id))
            {
                figures.due += 1;
                if seen.events.contains_key(&number) {
                    continue;
                }
                if seen
                    .gaps
                    .iter()
                    .any(|gap| gap.covers(&event.channel, id) && (event.lost || !gap.of_lost))
                {
                    figures.in_gaps += 1;
                    continue;
                }
                let kept = if event.lost {
                    ""
                } else {
                    ", which the log has never lost"
                };
                let what = format!(
                    "{} did not get {id} of {}{kept}",
                    seen.follows.name, event.channel
                );
                self.breaches.add(
                    if event.acknowledged {
                        Breach::Lost
                    } else {
                        Breach::Uneven
                    },
                    what,
                );
            }
        }
        self.check_lanes();
        (figures, self.breaches)
    }

    /// Checks that ids grow with the sequence numbers.
    fn check_lanes(&mut self) {
        let mut lanes: BTreeMap<(&str, &Channel), Vec<(u64, EventId)>> = BTreeMap::new();
        for ((publisher, sequence), number) in &self.by_stamp {
            let event = &self.events[*number];
            if let Some(id) = event.id.filter(|_| event.acknowledged) {
                lanes
                    .entry((publisher, &event.channel))
                    .or_default()
                    .push((*sequence, id));
            }
        }
        for ((publisher, channel), mut events) in lanes {
            events.sort_unstable();
            if let Some(pair) = events.windows(2).find(|pair| pair[0].1 >= pair[1].1) {
                let what = format!(
                    "{publisher} sent {} to {channel} before {}",
                    pair[0].1, pair[1].1
                );
                self.breaches.add(Breach::Disordered, what);
            }
        }
    }
}

impl Follows {
    fn wants(&self, event: &Event) -> bool {
        self.channels.contains(&event.channel)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    fn joined_before(&self, event: &Event, id: EventId) -> bool {
        match &self.joined {
            Joined::BeforeAll => true,
            Joined::After(cursor) => cursor
                .position_in(&event.channel)
                .is_some_and(|joined| id > joined.floor()),
        }
    }
}

impl Seen {
    /// Adds a gap. The gap ends at the oldest event kept, or at the listener's new position if
    /// nothing is kept.
    fn gap(&mut self, id: &str, gap: Gap) {
        if let Some(lost) = gap.lost {
            let (after, before) = (lost.after, Some(lost.before));
            self.gaps.push(Told {
                channel: gap.channel,
                after,
                before,
                of_lost: true,
            });
            return;
        }
        let position = |text: &str| {
            text.parse::<Cursor>()
                .ok()
                .and_then(|cursor| cursor.position_in(&gap.channel))
        };
        // An invalid cursor counts as a position before the first event.
        let after = position(&gap.after).map_or(EventId::ZERO, Position::floor);
        let before = gap.oldest.or_else(|| match position(id) {
            Some(Position::After(id)) => Some(EventId::new(id.ms, id.seq.saturating_add(1))),
            Some(Position::At(id)) => Some(id),
            None => None,
        });
        self.gaps.push(Told {
            channel: gap.channel,
            after,
            before,
            of_lost: false,
        });
    }
}

impl Told {
    fn covers(&self, channel: &Channel, id: EventId) -> bool {
        self.channel == *channel && id > self.after && self.before.is_some_and(|before| id < before)
    }
}
