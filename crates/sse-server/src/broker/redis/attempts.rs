//! The attempts of one write.
//!
//! Commands that a Redis rejected because another one is responsible are sent to that one: the
//! rejection proves that nothing was stored. With sentinels, that is the new primary, and in a Redis
//! Cluster the new owner of the slot.

use sse_proto::Channel;
use tokio::time::Instant;

use super::{
    session::{Session, Subject},
    shard::Purpose,
    shards::Shards,
};
use crate::broker::BrokerError;

/// The attempts of one write, which share a deadline.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    shards: &'a Shards,
    channel: &'a Channel,
    deadline: Instant,
    /// The era in which another Redis was responsible.
    left_era: Option<u64>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(shards: &'a Shards, channel: &'a Channel) -> Self {
        Self {
            shards,
            channel,
            deadline: shards.deadline(),
            left_era: None,
        }
    }

    /// Begins the next attempt.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is no connection before the deadline. Nothing was stored.
    pub(super) async fn session(&self) -> Result<Session<'a>, BrokerError> {
        let slot = self.shards.names.slot(self.channel);
        let route = self.shards.route(slot, self.left_era, self.deadline);
        let routed = route.await?;
        let replicated = routed.connections.replicated.clone();
        let subject = Subject::Channel(self.channel, slot);
        let routed = (routed, Purpose::Writes);
        let session = Session::new(self.shards, subject, routed, self.deadline);
        let mut session = session.for_writes(replicated);
        session.verify_first_use().await?;
        Ok(session)
    }

    /// Whether the commands of `session` are to be sent again in another session.
    pub(super) fn must_repeat(&mut self, session: &Session<'_>) -> bool {
        let must_repeat = self.shards.has_successors() && session.must_repeat();
        if must_repeat {
            self.left_era = Some(session.era());
        }
        must_repeat && Instant::now() < self.deadline
    }
}
