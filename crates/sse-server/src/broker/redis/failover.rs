//! Finds acknowledged events that Redis has lost (by a failover, or an older file), and records the
//! loss in the log.
//!
//! A loss behind an id that survived does not prove itself: the log simply continues. So a node
//! remembers, per channel, the newest id that it saw acknowledged or read. On a new connection,
//! before the node publishes or reads anything else, it verifies that this id is still there:
//!
//! ```text
//! node N1       knows D | reconnects | D is missing → appends gap record G
//! old Redis     A  B  C  D
//! new Redis     A  B                         G  E  F
//!                   after = B ───────────────┘
//!                   lost: every id between B and G
//! ```
//!
//! - The gap record has an id above the lost ones, so every cursor that crosses it reports the gap,
//!   on every node, now and at any later replay. No lost id is assigned again.
//! - `scripts/record_loss.lua` verifies and records in one step, so a loss has one record, however
//!   many nodes find it. An index beside the stream finds the record for a cursor at a lost id.
//! - Survivors are the events before the lost one, as long as Redis' clock only moves forwards. A
//!   promoted replica's clock may be behind; `known_ids` keeps a few older ids for that case.
//!
//! # Eras
//!
//! An *era* begins whenever Redis may have lost events: with each connection, and when the
//! replication id changes. Every known id is then unverified. A reply may arrive after the era in
//! which its command was sent has ended, and so after the verification that followed:
//!
//! ```text
//! era 1          XADD ─────────────────────────────► reply: id D   era 1 ≠ era 2: D is unverified
//! era 2                 reconnect, verify A, B, C                  until the next verification
//! ```
//!
//! # Limits
//!
//! The memory is bounded: a few ids for each of `--channels-max` channels. Beyond that, the half of
//! the channels that was quiet for longest is forgotten, and only nodes that still know their ids
//! find a loss there. If every node that knew the lost ids is gone, the loss is not found.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{RedisResult, Value};
use sse_proto::{Channel, EventId};

use super::{
    dial::CommandConnection,
    known_ids::{KnownIds, UnverifiedId, forget_quiet_half},
    names::Names,
    verification::{Verification, parse_verification, verification_commands},
};
use crate::metrics::Metrics;

/// Ids that are verified in one pipeline.
const VERIFY_BATCH: usize = 64;

/// Remembers the newest ids of channels, and verifies them when Redis may have lost events.
#[derive(Debug)]
pub(super) struct LossDetector {
    names: Names,
    age_max: Duration,
    channels_max: usize,
    known: Mutex<HashMap<Channel, KnownIds>>,
    era: AtomicU64,
    metrics: Metrics,
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

    /// Records that `id` of `channel` was acknowledged or read, by a command of `era`.
    ///
    /// `era` is that of the connection when the command was sent. If another era has begun since,
    /// the id is unverified.
    pub(super) fn observe(&self, channel: &Channel, id: EventId, era: u64) {
        if id == EventId::ZERO {
            return;
        }
        let mut all = self.known();
        let now = Instant::now();
        if !all.contains_key(channel) {
            if all.len() >= self.channels_max {
                forget_quiet_half(&mut all);
            }
            all.insert(channel.clone(), KnownIds::new(id, now));
        }
        if let Some(known) = all.get_mut(channel) {
            known.observe(id, now);
            // Compared under the lock, which `mark_all_unverified` also holds.
            if era != self.era() {
                known.mark_unverified(id, now);
            }
        }
    }

    /// Begins a new era, in which the newest id of every channel is unverified. Returns the era.
    pub(super) fn mark_all_unverified(&self) -> u64 {
        let mut all = self.known();
        let era = self.era.fetch_add(1, Ordering::SeqCst) + 1;
        for known in all.values_mut() {
            known.mark_newest_unverified();
        }
        era
    }

    /// Verifies the newest id of `channel` in any case, and its unverified ids.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn verify(
        &self,
        channel: &Channel,
        connection: &mut CommandConnection,
    ) -> RedisResult<()> {
        let mut ids = Vec::new();
        if let Some(known) = self.known().get_mut(channel) {
            known.mark_newest_unverified();
            ids.extend(with_channel((channel, known)));
        }
        self.verify_ids(&ids, connection).await
    }

    /// Verifies the unverified ids of every channel.
    ///
    /// An id stays unverified if its loss cannot be recorded, because Redis is a replica or full.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn verify_all(&self, connection: &mut CommandConnection) -> RedisResult<()> {
        let ids = self.unverified_ids();
        self.verify_ids(&ids, connection).await
    }

    fn unverified_ids(&self) -> Vec<(Channel, UnverifiedId)> {
        self.known().iter().flat_map(with_channel).collect()
    }

    async fn verify_ids(
        &self,
        ids: &[(Channel, UnverifiedId)],
        connection: &mut CommandConnection,
    ) -> RedisResult<()> {
        let mut is_any_lost = false;
        for batch in ids.chunks(VERIFY_BATCH) {
            let commands = verification_commands(&self.names, self.age_max, batch);
            let replies: Vec<Value> = commands.query_async(connection).await?;
            // The first reply is that of `SCRIPT LOAD`.
            for ((channel, unverified), reply) in batch.iter().zip(replies.into_iter().skip(1)) {
                is_any_lost |= self.apply_reply(channel, unverified.id, reply);
            }
        }
        if is_any_lost {
            self.metrics.failover_loss_found();
        }
        Ok(())
    }

    /// Applies the reply to the verification of one id; returns whether the id is lost.
    fn apply_reply(&self, channel: &Channel, id: EventId, reply: Value) -> bool {
        let verification = match parse_verification(reply) {
            Ok(verification) => verification,
            Err(why) => {
                tracing::debug!(%channel, %id, why, "an event cannot be verified yet");
                return false;
            }
        };
        self.update_known(channel, id, &verification);
        if matches!(verification, Verification::Recorded(_)) {
            self.metrics.gap_recorded();
        }
        let Some(lost) = verification.lost() else {
            return false;
        };
        tracing::warn!(
            %channel, %id, after = %lost.after, record = %lost.before,
            "Redis has lost acknowledged events; every client that reads past them gets a gap"
        );
        true
    }

    /// Updates the known ids of `channel`, unless another verification of `id` was faster.
    fn update_known(&self, channel: &Channel, id: EventId, verification: &Verification) {
        if let Some(known) = self.known().get_mut(channel)
            && known.remove_unverified(id)
        {
            apply_verification(known, id, verification);
        }
    }

    fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Channel, KnownIds>> {
        // No code panics while it holds this lock, and the map is valid at every step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply_verification(known: &mut KnownIds, id: EventId, verification: &Verification) {
    if *verification == Verification::Present {
        known.set_verified(id);
    }
    if let Some(lost) = verification.lost() {
        // The gap record is now the newest entry that this node knows.
        known.observe(lost.before, Instant::now());
    }
}

fn with_channel(
    (channel, known): (&Channel, &KnownIds),
) -> impl Iterator<Item = (Channel, UnverifiedId)> {
    known.unverified_ids().map(|id| (channel.clone(), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector(channels_max: usize) -> LossDetector {
        let age_max = Duration::from_hours(1);
        LossDetector::new(Names::new("sse:"), age_max, channels_max, Metrics::new())
    }

    fn channel(number: u64) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    fn id(number: u64) -> EventId {
        EventId::new(number, 0)
    }

    fn reply(words: &[&str]) -> Value {
        let words = words.iter().map(|word| Value::SimpleString((*word).into()));
        Value::Array(words.collect())
    }

    /// The milliseconds of the unverified ids of the first channel.
    fn unverified(detector: &LossDetector) -> Vec<u64> {
        detector.known()[&channel(1)]
            .unverified_ids()
            .map(|unverified| unverified.id.ms)
            .collect()
    }

    #[test]
    fn the_newest_channels_are_remembered_and_never_more_than_the_limit() {
        let detector = detector(10);
        for number in 1..=1000 {
            detector.observe(&channel(number), id(number), 0);
            assert!(detector.known().len() <= 10);
        }
        detector.observe(&channel(2000), EventId::ZERO, 0);
        assert!(
            detector.known().contains_key(&channel(1000))
                && !detector.known().contains_key(&channel(2000))
        );
    }

    #[test]
    fn an_unverified_id_is_neither_overwritten_nor_forgotten() {
        let detector = detector(4);
        detector.observe(&channel(1), id(1), detector.era());
        detector.mark_all_unverified();
        for number in 1..100 {
            detector.observe(&channel(number), id(100 + number), detector.era());
        }
        detector.mark_all_unverified();
        assert_eq!(unverified(&detector), [1, 101]);
        let recorded = reply(&["recorded", "200-0", "0-0"]);
        assert!(detector.apply_reply(&channel(1), id(1), recorded));
        assert_eq!(detector.known()[&channel(1)].newest_id(), id(200));
        assert_eq!(unverified(&detector), [101]);
    }

    #[test]
    fn a_reply_that_arrives_after_the_verification_is_unverified() {
        let detector = detector(4);
        let era = detector.era();
        detector.observe(&channel(1), id(1), era);
        detector.mark_all_unverified();
        assert!(!detector.apply_reply(&channel(1), id(1), reply(&["present"])));
        detector.observe(&channel(1), id(2), era);
        detector.observe(&channel(1), id(3), detector.era());
        let known = detector.known()[&channel(1)].clone();
        let unverified = known.unverified_ids().next().unwrap();
        assert_eq!((known.newest_id(), unverified.id), (id(3), id(2)));
        assert_eq!(unverified.older, [id(1); 3]);
    }

    #[test]
    fn every_era_that_is_not_verified_has_its_own_unverified_id() {
        let detector = detector(4);
        for number in 1..=3 {
            detector.observe(&channel(1), id(number), detector.era());
            detector.mark_all_unverified();
        }
        assert!(!detector.apply_reply(&channel(1), id(1), reply(&["present"])));
        assert_eq!(unverified(&detector), [2, 3]);
        for number in 4..100 {
            detector.observe(&channel(1), id(number), detector.era());
            detector.mark_all_unverified();
        }
        assert_eq!(unverified(&detector), [2, 93, 94, 95, 96, 97, 98, 99]);
        // An id that is not older is not listed as older.
        detector.observe(&channel(2), id(5), detector.era());
        detector.observe(&channel(2), id(4), detector.era() - 1);
        let known = detector.known()[&channel(2)].clone();
        assert_eq!(
            known.unverified_ids().next().unwrap().older,
            [EventId::ZERO; 3]
        );
    }

    #[test]
    fn an_id_that_redis_cannot_verify_stays_unverified() {
        let detector = detector(4);
        detector.observe(&channel(1), id(1), 0);
        detector.mark_all_unverified();
        assert!(!detector.apply_reply(&channel(1), id(1), Value::Nil));
        assert_eq!(unverified(&detector), [1]);
        assert!(!detector.apply_reply(&channel(1), id(1), reply(&["trimmed"])));
        assert!(unverified(&detector).is_empty());
    }
}
