//! Whether what was promised was kept: what publishers sent against what each listener got. Pure.
//!
//! - Every acknowledged event was seen by every listener that follows its channel and type, once and in the channel's
//!   order, or lies inside a gap that this listener was told of.
//! - A gap that says that the log lost events excuses only those that it did lose.
//! - Where the log lost events of a channel, a gap without a range may send a listener back to the oldest event kept: a node
//!   that did not know the lost ids cannot tell how far back is far enough. Then history comes again, in order.
//! - No event was seen that was not published, nor one that was refused.
//! - An event of unknown outcome was seen by all who follow it or by none, and once.
//! - The ids of a channel only grow, for every listener, and are those that the publishers were answered.
//! - What a publisher sent after the answer to something else stands after it in the channel (numbers of a
//!   [`Stamp`](sse_proto::record::Stamp) grow along a lane of such events).
//!
//! First the [`Ledger`] takes the publishers' records and what the log has lost, then [`Ledger::follow`] each listener's, and
//! [`Ledger::conclude`] compares them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::Gap,
    record::{Outcome, Received, Sent},
};

/// Breaches of one kind that are told one by one.
const TOLD_MAX: usize = 5;

/// An event that the log had, and lost: a fail-over went back to before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostEvent {
    /// Where it was.
    pub(crate) channel: Channel,
    /// Its id there.
    pub(crate) id: EventId,
    /// As in its [`Stamp`](sse_proto::record::Stamp).
    pub(crate) publisher: String,
    /// Likewise.
    pub(crate) sequence: u64,
}

/// What a listener follows, and from where on everything is due to it.
#[derive(Debug, Clone)]
pub(crate) struct Follows {
    /// For the report.
    pub(crate) name: String,
    /// Its channels.
    pub(crate) channels: Vec<Channel>,
    /// Its types; none for all.
    pub(crate) kinds: Vec<String>,
    /// Where it began.
    pub(crate) joined: Joined,
}

/// Where a listener began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Before anything was published.
    BeforeAll,
    /// At this position, which it was told.
    After(Cursor),
}

/// All that was published, and what is wrong with what was received so far.
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
    /// As the publisher was answered; of an unknown outcome, as the first listener saw it.
    id: Option<EventId>,
}

/// What one listener got.
#[derive(Debug)]
pub(crate) struct Seen {
    follows: Follows,
    /// By the number of the event, with the round in which it was seen last.
    events: BTreeMap<usize, u32>,
    /// How often history began again, by channel.
    rounds: BTreeMap<Channel, u32>,
    gaps: Vec<Told>,
    /// How many events it got, those it should not have included.
    pub(crate) deliveries: u64,
}

/// A gap, as a range of one channel: after the first id and before the second.
#[derive(Debug)]
struct Told {
    channel: Channel,
    after: EventId,
    before: Option<EventId>,
    /// It says that the log lost what lies there, and nothing else.
    of_lost: bool,
}

/// What was broken, by kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Breaches(BTreeMap<Breach, Vec<String>>);

/// Kinds of broken promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// An acknowledged event was not seen, and no gap tells of it.
    Lost,
    /// An event was seen twice.
    Repeated,
    /// An id is not greater than the one before it in its channel.
    Disordered,
    /// An event was seen that was not published, was refused, or is not of that channel or type.
    Foreign,
    /// An event has another id than its publisher was answered, or two have the same.
    WrongId,
    /// An event of unknown outcome was seen by some and not by others.
    Uneven,
    /// A record cannot be read, a listener did not catch up, a process ended by itself.
    Trouble,
}

/// The figures of a whole run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Acknowledged events.
    pub(crate) acknowledged: u64,
    /// Events of unknown outcome.
    pub(crate) unknown: u64,
    /// Those of them that were stored.
    pub(crate) unknown_stored: u64,
    /// Events that listeners got.
    pub(crate) deliveries: u64,
    /// Events that were due to listeners, once for each.
    pub(crate) due: u64,
    /// Those of them that lie in gaps.
    pub(crate) in_gaps: u64,
    /// Gaps told.
    pub(crate) gaps: u64,
    /// Acknowledged events that the log lost.
    pub(crate) lost: u64,
    /// How often history began again for a listener.
    pub(crate) rounds: u64,
}

impl Breaches {
    /// Adds one.
    pub(crate) fn add(&mut self, breach: Breach, what: String) {
        self.0.entry(breach).or_default().push(what);
    }

    /// Adds several.
    pub(crate) fn add_all(&mut self, breach: Breach, what: impl IntoIterator<Item = String>) {
        for one in what {
            self.add(breach, one);
        }
    }

    /// Adds those.
    pub(crate) fn extend(&mut self, other: Self) {
        for (breach, all) in other.0 {
            self.0.entry(breach).or_default().extend(all);
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which kinds there are.
    pub(crate) fn kinds(&self) -> Vec<Breach> {
        self.0.keys().copied().collect()
    }

    /// For people: the first of each kind, and how many there are.
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
    /// Takes a line of a publisher that publishes one type of event.
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
            id,
        });
    }

    /// Takes an event that the log lost, once all that was sent is known. (Of a batch, nobody but the log may know its id.)
    pub(crate) fn lost(&mut self, lost: LostEvent) {
        let LostEvent {
            channel,
            id,
            publisher,
            sequence,
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
        if event.channel != channel || *event.id.get_or_insert(id) != id {
            let what = format!(
                "{channel} had {id}, which others know as {:?} of {}",
                event.id, event.channel
            );
            self.breaches.add(Breach::WrongId, what);
        }
    }

    /// Takes all that a listener recorded, in order.
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

    /// Takes one event of a listener.
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

    /// Compares what all listeners got with what was published.
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
                // Within a batch no id is answered; whoever gets the event tells it.
                if event.acknowledged && all.iter().any(|seen| seen.follows.wants(event)) {
                    self.breaches.add(
                        Breach::Lost,
                        format!("nobody got event {number} of {}", event.channel),
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

    /// Numbers and ids grow together.
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
    /// A gap ends at the oldest event kept, or where nothing is kept at the position that it puts the listener at.
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
        // What is no cursor of ours may have been before everything.
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
