//! A model test of streams: logs, their tails, and a client whose connection is cut at random.
//!
//! The test checks the promise itself, on the bytes of the wire. In each channel every event
//! arrives once and in order, across reconnects with the last id that arrived, or a true gap
//! reports that events are gone.

mod client;
mod log;

use proptest::prelude::*;
use sse_proto::{Cursor, EventId, Position};

use self::{client::Client, log::Log};
use super::{
    Envelope, Filter, MultiSubscription, Settlement, SubscriptionOptions,
    multi::{Fetch, MultiStep},
};
use crate::broker::{Continuity, ReadFrom, Stored};

/// One step of the model.
#[derive(Debug, Clone)]
enum Action {
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
    /// The driver asks the subscription what to do next.
    Step,
    /// The page that was asked for arrives.
    Arrive,
    Heartbeat,
    /// The connection breaks, after this many of the newest blocks have arrived.
    Cut {
        blocks: usize,
    },
}

fn action(channels: usize) -> impl Strategy<Value = Action> {
    let channel = 0..channels;
    prop_oneof![
        4 => (channel.clone(), prop::collection::vec(any::<bool>(), 1..6))
            .prop_map(|(channel, wanted)| Action::Append { channel, wanted }),
        4 => channel.clone().prop_map(|channel| Action::Feed { channel }),
        1 => (channel, 1_usize..8).prop_map(|(channel, events)| Action::Trim { channel, events }),
        8 => Just(Action::Step),
        4 => Just(Action::Arrive),
        1 => Just(Action::Heartbeat),
        2 => (0_usize..4).prop_map(|blocks| Action::Cut { blocks }),
    ]
}

struct System {
    logs: Vec<Log>,
    options: SubscriptionOptions,
    subscription: MultiSubscription,
    fetching: Option<Fetch>,
    client: Client,
    /// Blocks that were sent and may be lost with the connection.
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
        let options = SubscriptionOptions {
            filter: Filter::new(kinds),
            envelope,
            until,
            notices: false,
        };
        let starts = logs
            .iter()
            .map(|log| (log.channel.clone(), Ok(Position::After(EventId::ZERO))));
        let subscription = MultiSubscription::new(starts, &options);
        let opening = format!("id: {}", subscription.opening_cursor().unwrap());
        let mut system = Self {
            logs,
            options,
            subscription,
            fetching: None,
            client: Client::default(),
            in_flight: Vec::new(),
            ids: 0,
        };
        system
            .client
            .read_block(&opening, &system.logs, &system.options);
        system
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Append { channel, wanted } => {
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
            Action::Feed { channel } => self.logs[channel].feed(),
            Action::Trim { channel, events } => {
                let log = &mut self.logs[channel];
                log.trimmed = (log.trimmed + events).min(log.events.len());
            }
            Action::Step => drop(self.step()),
            Action::Arrive => self.arrive(),
            Action::Heartbeat => {
                let block = self
                    .subscription
                    .take_unsent_cursor()
                    .map(|cursor| format!("id: {cursor}"));
                if block.is_some() {
                    self.send(block.into_iter().collect());
                }
            }
            Action::Cut { blocks } => self.reconnect(blocks),
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
            if let Some(chunk) = self.subscription.apply_page(fetch, &page) {
                self.send(blocks(&chunk.bytes));
            }
        }
    }

    /// Sends `blocks`. The blocks that were sent before have arrived by now.
    fn send(&mut self, blocks: Vec<String>) {
        let arrived = std::mem::replace(&mut self.in_flight, blocks);
        for block in arrived {
            self.client.read_block(&block, &self.logs, &self.options);
        }
    }

    fn reconnect(&mut self, arrived: usize) {
        self.in_flight.truncate(arrived);
        self.send(Vec::new());
        let cursor: Cursor = self.client.last_event_id.parse().unwrap();
        let start = |log: &Log| {
            (
                log.channel.clone(),
                Ok(cursor.position_in(&log.channel).unwrap()),
            )
        };
        self.subscription = MultiSubscription::new(self.logs.iter().map(start), &self.options);
        self.fetching = None;
    }

    /// Lets the client read everything that is left, up to its end if there is one.
    fn finish(&mut self) {
        self.logs.iter_mut().for_each(Log::feed);
        let settlements = self
            .logs
            .iter()
            .map(|log| Settlement {
                last: log.last(),
                loss: None,
            })
            .collect();
        self.subscription.set_settlements(settlements);
        let done = if self.options.until.is_some() {
            MultiStep::End
        } else {
            MultiStep::Wait
        };
        let mut steps = 0;
        while self.step() != done || self.fetching.is_some() {
            self.arrive();
            steps += 1;
            assert!(steps < 10_000, "it never reaches {done:?}");
        }
        self.apply(Action::Heartbeat);
        self.send(Vec::new());
        self.check_complete();
    }

    fn check_complete(&self) {
        let bound = self.options.until.unwrap_or(EventId::new(u64::MAX, 0));
        let last: Cursor = self.client.last_event_id.parse().unwrap();
        for log in &self.logs {
            let due = self.client.due.get(&log.channel).copied().unwrap_or(0);
            let is_wanted =
                |event: &&Stored| event.id <= bound && self.options.filter.passes(&event.kind);
            assert_eq!(
                log.events[due..].iter().find(is_wanted),
                None,
                "{} ends too early",
                log.channel
            );
            // A client that resumes at the last id finds no event, unless the log was trimmed
            // since.
            let position = last.position_in(&log.channel).unwrap();
            let left = log.read(ReadFrom::Position(position), usize::MAX);
            let is_trimmed = log.events[..log.trimmed]
                .iter()
                .any(|event| event.id > position.floor());
            assert!(
                left.start == Continuity::Contiguous || is_trimmed,
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
        channels in 1_usize..5,
        only_wanted: bool,
        enveloped: bool,
        until in prop::option::of(0_u64..60),
        actions in prop::collection::vec(action(4), 0..120),
    ) {
        let envelope = if enveloped { Envelope::Json } else { Envelope::None };
        let until = until.map(|ms| EventId::new(ms, 0));
        let mut system = System::new(channels, only_wanted, envelope, until);
        for mut action in actions {
            match &mut action {
                Action::Append { channel, .. }
                | Action::Feed { channel }
                | Action::Trim { channel, .. } => {
                    *channel %= channels;
                }
                _ => {}
            }
            system.apply(action);
        }
        system.finish();
    }
}
