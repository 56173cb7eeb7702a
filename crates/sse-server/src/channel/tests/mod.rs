//! A model for the tests: logs, their tails, and a subscriber of several channels whose connection is cut at random.
//!
//! It checks the promise itself, on the bytes of the wire: in each channel every event comes once and in order, across
//! reconnects with whatever id was last seen, or a gap says truly that some are gone.

use std::{collections::HashMap, num::NonZeroUsize};

use proptest::prelude::*;
use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::{self, Gap},
};

use super::{
    Envelope, Filter, Frames, MultiSubscription, Settlement, TailLimits, Wanted,
    multi::{Fetch, MultiStep},
};
use crate::broker::{
    self, Page, PageLimits, ReadFrom, Stored,
    continuity::{Extent, Trimmed, judge},
};

/// A channel: all events it ever had, how many of them are trimmed, and its tail.
struct Log {
    channel: Channel,
    events: Vec<Stored>,
    trimmed: usize,
    tail: Frames,
    /// How many events the tail was fed.
    fed: usize,
}

impl Log {
    fn new(name: &str) -> Self {
        let limits = TailLimits {
            events_max: NonZeroUsize::new(3).unwrap(),
            bytes_max: usize::MAX,
        };
        let mut tail = Frames::new(limits);
        tail.join(EventId::ZERO);
        Self {
            channel: name.parse().unwrap(),
            events: Vec::new(),
            trimmed: 0,
            tail,
            fed: 0,
        }
    }

    fn kept(&self) -> &[Stored] {
        &self.events[self.trimmed..]
    }

    fn last(&self) -> EventId {
        self.events.last().map_or(EventId::ZERO, |event| event.id)
    }

    fn feed(&mut self) {
        self.tail.push(self.events[self.fed..].to_vec());
        self.fed = self.events.len();
    }

    /// What the broker's contract says of a read.
    fn read(&self, from: ReadFrom, events_max: usize) -> Page {
        let last = self.last();
        let mark = self
            .trimmed
            .checked_sub(1)
            .map_or(EventId::ZERO, |nth| self.events[nth].id);
        let trimmed = if self.trimmed == 0 {
            Trimmed::NothingSince(mark)
        } else {
            Trimmed::Through(mark)
        };
        let oldest = self.kept().first().map(|event| event.id);
        let (start, floor) = match from {
            ReadFrom::Position(position) => {
                let (Position::After(id) | Position::At(id)) = position;
                let present = self.kept().iter().any(|event| event.id == id);
                let start = judge(
                    position,
                    present,
                    &Extent {
                        oldest,
                        last,
                        trimmed,
                    },
                );
                (
                    start,
                    if start == broker::Continuity::Contiguous {
                        position.floor()
                    } else {
                        EventId::ZERO
                    },
                )
            }
            ReadFrom::Oldest | ReadFrom::Time(_) => (broker::Continuity::Contiguous, EventId::ZERO),
        };
        let mut events: Vec<Stored> = self
            .kept()
            .iter()
            .filter(|event| event.id > floor)
            .cloned()
            .collect();
        let limits = PageLimits {
            events_max,
            bytes_max: usize::MAX,
        };
        let fit = limits.fit(events.iter().map(Stored::size));
        let more = events.len() > fit;
        events.truncate(fit);
        Page {
            start,
            events,
            more,
            last,
        }
    }
}

/// What happens to the system, one thing at a time.
#[derive(Debug, Clone)]
enum Happening {
    Append {
        channel: usize,
        wanted: Vec<bool>,
    },
    Feed {
        channel: usize,
    },
    Trim {
        channel: usize,
        events: usize,
    },
    /// The subscriber is asked what is next.
    Step,
    /// The page that is on its way comes.
    Arrive,
    Heartbeat,
    /// The connection breaks; of what was sent last only so many blocks had come.
    Cut {
        blocks: usize,
    },
}

fn happening(channels: usize) -> impl Strategy<Value = Happening> {
    let channel = 0..channels;
    prop_oneof![
        4 => (channel.clone(), prop::collection::vec(any::<bool>(), 1..6))
            .prop_map(|(channel, wanted)| Happening::Append { channel, wanted }),
        4 => channel.clone().prop_map(|channel| Happening::Feed { channel }),
        1 => (channel, 1_usize..8).prop_map(|(channel, events)| Happening::Trim { channel, events }),
        8 => Just(Happening::Step),
        4 => Just(Happening::Arrive),
        1 => Just(Happening::Heartbeat),
        2 => (0_usize..4).prop_map(|blocks| Happening::Cut { blocks }),
    ]
}

/// The subscriber's side: what it has seen, and the id that it would come back with.
#[derive(Default)]
struct Seen {
    last_event_id: String,
    /// For each channel, how many events lie before the next one that is due.
    due: HashMap<Channel, usize>,
}

impl Seen {
    fn block(&mut self, block: &str, logs: &[Log], wanted: &Wanted) {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if let Some(id) = field("id") {
            id.clone_into(&mut self.last_event_id);
            assert!(
                id.len() < Cursor::BYTES_MAX && id.parse::<Cursor>().is_ok(),
                "{id}"
            );
            assert_eq!(id.contains('='), logs.len() > 1, "{id}");
        }
        let Some(data) = field("data") else { return };
        if field("event") == Some("gap") {
            let gap: Gap = serde_json::from_str(data).unwrap();
            let log = logs.iter().find(|log| log.channel == gap.channel).unwrap();
            let due = self.due.entry(gap.channel.clone()).or_default();
            let cursor: Cursor = self.last_event_id.parse().unwrap();
            let floor = cursor.position_in(&log.channel).unwrap().floor();
            let oldest = log.events.partition_point(|event| event.id <= floor);
            assert!(
                gap.oldest.is_none_or(|id| log.events[oldest].id == id),
                "{data}"
            );
            assert!(
                *due < oldest && oldest <= log.trimmed,
                "a false gap: {data}"
            );
            *due = oldest;
            return;
        }
        let envelope: Option<api::Envelope<'_>> =
            (wanted.envelope == Envelope::Json).then(|| serde_json::from_str(data).unwrap());
        // The data says which event of which channel it is.
        let data = envelope.as_ref().map_or(data, |envelope| &envelope.data);
        let (channel, number) = data.split_once(' ').unwrap();
        let log = logs
            .iter()
            .find(|log| log.channel.as_str() == channel)
            .unwrap();
        let number: usize = number.parse().unwrap();
        let due = self.due.entry(log.channel.clone()).or_default();
        assert!(envelope.as_ref().is_none_or(
            |envelope| envelope.id == log.events[number].id && envelope.channel == channel
        ));
        let missing = log.events[*due..number]
            .iter()
            .filter(|event| wanted.filter.passes(&event.kind))
            .count();
        assert!(
            number >= *due && missing == 0,
            "event {data} where {due} was due"
        );
        assert!(
            wanted
                .until
                .is_none_or(|bound| log.events[number].id <= bound),
            "event {data} after the end"
        );
        *due = number + 1;
    }
}

struct System {
    logs: Vec<Log>,
    wanted: Wanted,
    subscription: MultiSubscription,
    fetching: Option<Fetch>,
    seen: Seen,
    /// Blocks that were sent and may still be lost with the connection.
    in_flight: Vec<String>,
    ids: u64,
}

impl System {
    fn new(channels: usize, only_wanted: bool, envelope: Envelope, until: Option<EventId>) -> Self {
        let logs: Vec<Log> = (0..channels)
            .map(|nth| Log::new(&format!("c{nth}")))
            .collect();
        let kinds = if only_wanted {
            vec!["wanted".parse().unwrap()]
        } else {
            Vec::new()
        };
        let wanted = Wanted {
            filter: Filter::new(kinds),
            envelope,
            until,
        };
        let starts = logs
            .iter()
            .map(|log| (log.channel.clone(), Ok(Position::After(EventId::ZERO))));
        let subscription = MultiSubscription::new(starts, &wanted);
        let opening = format!("id: {}", subscription.opening().unwrap());
        let mut system = Self {
            logs,
            wanted,
            subscription,
            fetching: None,
            seen: Seen::default(),
            in_flight: Vec::new(),
            ids: 0,
        };
        system.seen.block(&opening, &system.logs, &system.wanted);
        system
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Append { channel, wanted } => {
                for is_wanted in wanted {
                    self.ids += 1;
                    let log = &mut self.logs[channel];
                    let data = format!("{} {}", log.channel, log.events.len()).into();
                    let kind = if is_wanted { "wanted" } else { "other" }.into();
                    log.events.push(Stored {
                        id: EventId::new(self.ids, 0),
                        kind,
                        data,
                    });
                }
            }
            Happening::Feed { channel } => self.logs[channel].feed(),
            Happening::Trim { channel, events } => {
                let log = &mut self.logs[channel];
                log.trimmed = (log.trimmed + events).min(log.events.len());
            }
            Happening::Step => drop(self.step()),
            Happening::Arrive => self.arrive(),
            Happening::Heartbeat => {
                let told = self
                    .subscription
                    .tell()
                    .map(|position| format!("id: {position}"));
                if told.is_some() {
                    self.send(told.into_iter().collect());
                }
            }
            Happening::Cut { blocks } => self.reconnect(blocks),
        }
    }

    fn step(&mut self) -> MultiStep {
        let logs = &self.logs;
        let busy = self.fetching.map(|fetch| fetch.nth);
        let step = self.subscription.next(|nth| &logs[nth].tail, busy);
        match &step {
            MultiStep::Write(chunk) => self.send(blocks(&chunk.bytes)),
            MultiStep::Fetch(fetch) => self.fetching = Some(*fetch),
            MultiStep::Wait | MultiStep::End => {}
        }
        step
    }

    fn arrive(&mut self) {
        if let Some(fetch) = self.fetching.take() {
            let page = self.logs[fetch.nth].read(fetch.from, 3);
            if let Some(chunk) = self.subscription.page(fetch, &page) {
                self.send(blocks(&chunk.bytes));
            }
        }
    }

    /// What was sent before has come now.
    fn send(&mut self, blocks: Vec<String>) {
        let come = std::mem::replace(&mut self.in_flight, blocks);
        for block in come {
            self.seen.block(&block, &self.logs, &self.wanted);
        }
    }

    fn reconnect(&mut self, come: usize) {
        self.in_flight.truncate(come);
        self.send(Vec::new());
        let cursor: Cursor = self.seen.last_event_id.parse().unwrap();
        let start = |log: &Log| {
            (
                log.channel.clone(),
                Ok(cursor.position_in(&log.channel).unwrap()),
            )
        };
        self.subscription = MultiSubscription::new(self.logs.iter().map(start), &self.wanted);
        self.fetching = None;
    }

    /// Nothing more happens: the subscriber gets everything that is left, and its end if there is one.
    fn settle(&mut self) {
        self.logs.iter_mut().for_each(Log::feed);
        let settlements = self
            .logs
            .iter()
            .map(|log| Settlement {
                last: log.last(),
                loss: None,
            })
            .collect();
        self.subscription.settle(settlements);
        let done = if self.wanted.until.is_some() {
            MultiStep::End
        } else {
            MultiStep::Wait
        };
        let mut steps = 0;
        while self.step() != done || self.fetching.is_some() {
            self.arrive();
            steps += 1;
            assert!(steps < 10_000, "it never comes to {done:?}");
        }
        self.happen(Happening::Heartbeat);
        self.send(Vec::new());
        let bound = self.wanted.until.unwrap_or(EventId::new(u64::MAX, 0));
        let last: Cursor = self.seen.last_event_id.parse().unwrap();
        for log in &self.logs {
            let due = self.seen.due.get(&log.channel).copied().unwrap_or(0);
            let is_wanted =
                |event: &&Stored| event.id <= bound && self.wanted.filter.passes(&event.kind);
            assert_eq!(
                log.events[due..].iter().find(is_wanted),
                None,
                "{} ends early",
                log.channel
            );
            // Whoever comes back with the last id finds that nothing is left, unless that was trimmed since.
            let position = last.position_in(&log.channel).unwrap();
            let left = log.read(ReadFrom::Position(position), usize::MAX);
            let is_trimmed = log.events[..log.trimmed]
                .iter()
                .any(|event| event.id > position.floor());
            assert!(
                left.start == broker::Continuity::Contiguous || is_trimmed,
                "{:?}",
                left.start
            );
            assert_eq!(left.events.iter().find(is_wanted), None);
        }
    }
}

fn blocks(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.strip_suffix("\n\n")
        .expect("whole blocks")
        .split("\n\n")
        .map(ToOwned::to_owned)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn each_channel_is_exact_however_they_are_read_and_cut(
        channels in 1_usize..5, only_wanted: bool, enveloped: bool, until in prop::option::of(0_u64..60),
        happenings in prop::collection::vec(happening(4), 0..120),
    ) {
        let envelope = if enveloped { Envelope::Json } else { Envelope::None };
        let mut system = System::new(channels, only_wanted, envelope, until.map(|ms| EventId::new(ms, 0)));
        for mut happening in happenings {
            match &mut happening {
                Happening::Append { channel, .. } | Happening::Feed { channel } | Happening::Trim { channel, .. } => {
                    *channel %= channels;
                }
                _ => {}
            }
            system.happen(happening);
        }
        system.settle();
    }
}
