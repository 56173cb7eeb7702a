//! Maintenance: trims channels by age, forgets expired idempotency keys, expires channels by their time
//! to live, removes tombstones, and forgets dead channels when there is no room for new ones.
//!
//! `XADD` trims by count only, because it rejects `MAXLEN` and `MINID` together. Everything else is done
//! here, channel by channel, in the order of their due times. No round visits all channels:
//!
//! ```text
//! write.lua, configure.lua … ─► due:{slot}  a channel's due time, never later than needed
//!                                   │ earliest of each slot, read once per SCAN, or at once by a hint
//!                                   ▼
//!                                agenda      slots by their earliest due time, in the memory of a node
//!                                   │ due now
//!                                   ▼
//!                                maintain.lua per due channel ─► due:{slot}, or quiet
//! ```
//!
//! - The slots form [`PARTITIONS`](partitions::PARTITIONS) partitions. One node at a time maintains a
//!   partition, the one that holds its lease. Work that two nodes do is harmless.
//! - A channel is *quiet* if nothing is due before its next write. It costs nothing until then.
//! - In a Redis Cluster, a partition can lie on several primaries. While one of them is away, the
//!   channels of the others are maintained.
//! - Work is done in batches with pauses between them, so that Redis has most of its time for others.
//!
//! | file | contents |
//! |---|---|
//! | `partitions` | the leases |
//! | `agenda` | slots by their earliest due time |
//! | `hints` | slots of which a writer knows that a channel is due soon |
//! | `visit` | the script for the channels that are due |
//! | `full` | forgets dead channels |
//! | `rules` | indexes channels again after a change of the configuration |
//! | `size` | how much the log holds, for the metrics |

mod agenda;
mod full;
pub(super) mod hints;
mod partitions;
mod rules;
mod size;
mod visit;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use redis::{Cmd, Value};
use tokio::time::sleep;

use self::{agenda::Agenda, full::ForgetCursor, partitions::Leases, size::SizeMeter};
use super::{
    replies::{check_rejection, into_array, text},
    slots::{SLOTS, Slot},
    streams::Streams,
};
use crate::{
    broker::{BrokerError, lifecycle::ClockGuard},
    metrics::Metrics,
};

/// Longest pause between two looks at the agenda.
const TICK_MAX: Duration = Duration::from_millis(500);
/// Slots whose due times are read, or whose channels are visited, in one pipeline.
const SLOTS_BATCH: usize = 256;
/// Pause before a slot is looked at again, if a channel there could not be maintained.
const RETRY_MS: u64 = 1000;

/// How often maintenance does what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Pause between two looks at a channel in use, and between two rounds of a node.
    round: Duration,
    /// Time in which the earliest due time of every slot is read.
    scan: Duration,
    /// How long after its last write a channel can be quiet.
    quiet: Duration,
}

impl Pace {
    /// `age_max` is the age up to which events are kept. `known_for` is how long a node may append
    /// without a script after it has run one.
    pub(super) fn new(age_max: Duration, known_for: Duration) -> Self {
        let round = (age_max / 4).clamp(Duration::from_millis(100), Duration::from_mins(1));
        Self {
            round,
            scan: round.max(Duration::from_secs(5)),
            quiet: (known_for * 6).max(Duration::from_secs(1)),
        }
    }

    /// Returns the time in which the earliest due time of every slot is read. A channel that is due
    /// sooner needs a hint.
    pub(super) const fn scan(&self) -> Duration {
        self.scan
    }

    fn tick(&self) -> Duration {
        self.round.min(TICK_MAX)
    }
}

/// Maintains channels for as long as the broker is in use.
///
/// `metrics` get the size of the log.
pub(super) async fn run(streams: Weak<Streams>, metrics: Metrics) {
    let Some(pace) = streams.upgrade().map(|streams| streams.pace) else {
        return;
    };
    let mut maintainer = Maintainer::new(pace, metrics);
    loop {
        let Some(streams) = streams.upgrade() else {
            return;
        };
        if let Err(error) = maintainer.run_tick(&streams).await {
            tracing::debug!(%error, "maintenance of channels is repeated");
        }
        drop(streams);
        sleep(pace.tick()).await;
    }
}

/// What a node remembers between two looks.
#[derive(Debug)]
struct Maintainer {
    pace: Pace,
    leases: Leases,
    agenda: Agenda,
    guard: ClockGuard,
    /// The slot whose due time is read next.
    next_scanned: u16,
    round_at: Instant,
    forget: ForgetCursor,
    rules: rules::IndexedRules,
    size: SizeMeter,
    /// The era in which this node has loaded the script.
    loaded: Option<u64>,
}

impl Maintainer {
    fn new(pace: Pace, metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            pace,
            leases: Leases::new(pace.round),
            agenda: Agenda::default(),
            guard: ClockGuard::default(),
            next_scanned: 0,
            round_at: now + pace.round,
            forget: ForgetCursor::default(),
            rules: rules::IndexedRules::default(),
            size: SizeMeter::new(metrics),
            loaded: None,
        }
    }

    async fn run_tick(&mut self, streams: &Arc<Streams>) -> Result<(), BrokerError> {
        self.leases.renew_if_due(streams).await?;
        let leases = &self.leases;
        self.agenda.keep_slots(|slot| leases.holds(slot));
        let mut hinted = self.exchange_hints(streams).await?;
        if self.leases.holds_any() {
            hinted.extend(self.next_scanned());
            self.index_by_rules(streams, false).await;
            self.read_due_times(streams, &hinted).await?;
            self.visit_due(streams).await?;
        }
        if self.round_at <= Instant::now() {
            self.round_at = Instant::now() + self.pace.round;
            streams.forget_cached();
            self.size.measure(streams).await?;
            self.index_by_rules(streams, true).await;
            self.forget_dead(streams).await?;
        }
        Ok(())
    }

    /// The slots whose due times are to be read in this tick, of those that this node maintains.
    fn next_scanned(&mut self) -> Vec<Slot> {
        let share = self.pace.tick().as_secs_f64() / self.pace.scan.as_secs_f64();
        let count = (f64::from(SLOTS) * share).ceil();
        let mut slots = Vec::new();
        let mut left = count;
        while left > 0.0 {
            left -= 1.0;
            let slot = Slot::new(self.next_scanned);
            self.next_scanned = (self.next_scanned + 1) % SLOTS;
            if self.leases.holds(slot) {
                slots.push(slot);
            }
        }
        slots
    }

    /// Puts the earliest due times of `slots` on the agenda.
    async fn read_due_times(
        &mut self,
        streams: &Streams,
        slots: &[Slot],
    ) -> Result<(), BrokerError> {
        for slots in slots.chunks(SLOTS_BATCH) {
            let commands = slots.iter();
            let commands = commands.map(|slot| (*slot, earliest_command(streams, *slot)));
            let replies = streams.query_slots(commands).await?;
            for (slot, reply) in slots.iter().zip(replies) {
                self.agenda.set(*slot, parse_earliest(reply));
            }
        }
        Ok(())
    }
}

fn earliest_command(streams: &Streams, slot: Slot) -> Cmd {
    Cmd::zrange_withscores(streams.names.due(slot), 0, 0)
}

/// The earliest due time in a reply of `ZRANGE … WITHSCORES`; `None` if there is none, or it cannot be
/// read now.
fn parse_earliest(reply: Value) -> Option<u64> {
    let score = into_array(check_rejection(reply).ok()?)?.pop()?;
    let score: f64 = text(score)?.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the scores are times in milliseconds, and a wrong one only changes when a slot is read"
    )]
    (score < QUIET).then_some(score as u64)
}

/// `QUIET` of `life.lua`: scores from here on belong to channels that are quiet.
const QUIET: f64 = 2_251_799_813_685_248.0;

impl Streams {
    /// Sends commands on keys of slots, and returns their replies, errors among them.
    async fn query_slots(
        &self,
        commands: impl IntoIterator<Item = (Slot, Cmd)>,
    ) -> Result<Vec<Value>, BrokerError> {
        self.shards
            .each_command(commands.into_iter().collect())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earliest(score: &str) -> Option<u64> {
        let values = ["orders", score].map(|text| Value::BulkString(text.into()));
        parse_earliest(Value::Array(values.to_vec()))
    }

    #[test]
    fn a_quiet_channel_is_never_due() {
        assert_eq!(earliest("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(earliest("2253500000000000"), None);
        assert_eq!(parse_earliest(Value::Array(Vec::new())), None);
        assert_eq!(parse_earliest(Value::Nil), None);
    }

    #[test]
    fn every_slot_is_read_within_the_time_of_a_scan() {
        let pace = Pace::new(Duration::from_hours(1), Duration::from_secs(10));
        assert_eq!(
            (pace.scan, pace.quiet),
            (Duration::from_mins(1), Duration::from_mins(1))
        );
        let mut maintainer = Maintainer::new(pace, Metrics::new());
        assert!(maintainer.next_scanned().is_empty(), "it holds no lease");
        maintainer.leases.hold_all_for_test();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..120 {
            seen.extend(maintainer.next_scanned());
        }
        assert_eq!(seen.len(), usize::from(SLOTS));
    }
}
