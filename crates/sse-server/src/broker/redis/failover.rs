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
//! An *era* of a slot begins whenever its Redis may have lost events; see [`eras`](super::eras). Every
//! known id of the slot is then unverified. A channel is verified before its first use in the era, and
//! all others in the background. A reply may arrive after the era in which its command was sent has
//! ended, and so after the verification that followed:
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
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{RedisResult, Value};
use sse_proto::{Channel, EventId};

use super::{
    dial::CommandConnection,
    eras::Eras,
    known_ids::{KnownIds, UnverifiedId, forget_quiet_half},
    names::Names,
    slots::Slot,
    verification::{Verification, parse_verification, verification_commands},
};
use crate::metrics::{Metrics, ShardMetrics};

/// Ids that are verified in one pipeline.
const VERIFY_BATCH: usize = 64;
/// The pause after a batch of the background, in times of the batch. So it takes at most 5 % of Redis'
/// time.
const PAUSE_FACTOR: u32 = 19;

/// Remembers the newest ids of channels, and verifies them when Redis may have lost events.
#[derive(Debug)]
pub(super) struct LossDetector {
    names: Names,
    age_max: Duration,
    channels_max: usize,
    known: Mutex<HashMap<Channel, KnownIds>>,
    pub(super) eras: Eras,
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
            eras: Eras::new(names.slots()),
            names,
            age_max,
            channels_max,
            known: Mutex::default(),
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
        let slot = self.names.slot(channel);
        let mut all = self.known();
        let now = Instant::now();
        let present = self.eras.of(slot);
        if !all.contains_key(channel) {
            if all.len() >= self.channels_max {
                forget_quiet_half(&mut all);
            }
            all.insert(channel.clone(), KnownIds::new(id, now, present));
        }
        if let Some(known) = all.get_mut(channel) {
            // Before the newest id is another one.
            known.enter_era(present);
            known.observe(id, now);
            if era != present {
                known.mark_unverified(id, now);
                self.eras.set_pending(slot);
            }
        }
    }

    /// Whether ids of `channel` must be verified before the channel is used.
    pub(super) fn needs_verification(&self, channel: &Channel) -> bool {
        let slot = self.names.slot(channel);
        // The common case takes no lock.
        if !self.eras.is_pending(slot) {
            return false;
        }
        let mut all = self.known();
        all.get_mut(channel).is_some_and(|known| {
            known.enter_era(self.eras.of(slot));
            known.needs_verification()
        })
    }

    /// Verifies the unverified ids of `channel`, and its newest id if `with_newest`.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn verify(
        &self,
        channel: &Channel,
        connection: &mut CommandConnection,
        with_newest: bool,
    ) -> RedisResult<()> {
        let mut ids = Vec::new();
        if let Some(known) = self.known().get_mut(channel) {
            known.enter_era(self.eras.of(self.names.slot(channel)));
            if with_newest {
                known.mark_newest_unverified();
            }
            ids.extend(with_channel((channel, known)));
        }
        self.verify_ids(&ids, connection).await
    }

    /// Verifies the unverified ids of every channel of `slots`, in batches with pauses.
    ///
    /// An id stays unverified if its loss cannot be recorded, because Redis is a replica or full.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn verify_pending(
        &self,
        slots: &[Slot],
        connection: &mut CommandConnection,
        metrics: &ShardMetrics,
    ) -> RedisResult<()> {
        let pending = slots.iter().copied();
        let pending: HashMap<Slot, u64> = pending
            .filter(|slot| self.eras.is_pending(*slot))
            .map(|slot| (slot, self.eras.of(slot)))
            .collect();
        if pending.is_empty() {
            return Ok(());
        }
        let ids = self.unverified_ids(&pending);
        for (batch, nth) in ids.chunks(VERIFY_BATCH).zip(0..) {
            metrics.set_unverified(ids.len() - nth * VERIFY_BATCH);
            let began = Instant::now();
            self.verify_ids(batch, connection).await?;
            if ids.len() > VERIFY_BATCH {
                tokio::time::sleep(began.elapsed() * PAUSE_FACTOR).await;
            }
        }
        metrics.set_unverified(self.record_verified(pending));
        Ok(())
    }

    fn unverified_ids(&self, slots: &HashMap<Slot, u64>) -> Vec<(Channel, UnverifiedId)> {
        let mut all = self.known();
        let of_slots = all.iter_mut().filter_map(|(channel, known)| {
            let slot = self.names.slot(channel);
            slots.contains_key(&slot).then(|| {
                known.enter_era(self.eras.of(slot));
                (channel, &*known)
            })
        });
        of_slots.flat_map(with_channel).collect()
    }

    /// Records that the ids of `slots` were verified in these eras, except where some are left.
    /// Returns how many channels of `slots` have such ids.
    fn record_verified(&self, mut slots: HashMap<Slot, u64>) -> usize {
        // Held until the end, so that no id becomes unverified meanwhile.
        let all = self.known();
        let unverified = all.iter().filter(|(_, known)| known.is_unverified());
        let left: Vec<Slot> = unverified
            .map(|(channel, _)| self.names.slot(channel))
            .filter(|slot| slots.contains_key(slot))
            .collect();
        for slot in &left {
            slots.remove(slot);
        }
        for (slot, era) in slots {
            self.eras.set_verified(slot, era);
        }
        left.len()
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
            self.record_attempts(batch);
        }
        if is_any_lost {
            self.metrics.failover_loss_found();
        }
        Ok(())
    }

    fn record_attempts(&self, ids: &[(Channel, UnverifiedId)]) {
        let mut all = self.known();
        for (channel, _) in ids {
            if let Some(known) = all.get_mut(channel) {
                known.record_attempt();
            }
        }
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
mod tests;
