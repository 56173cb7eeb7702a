//! A session: commands that belong together, on the connection of one primary and under one deadline.
//!
//! A session never sends a command twice, unless the reply proves that Redis did nothing. What a
//! failure means depends on when it happens:
//!
//! ```text
//! no connection before the deadline   nothing was sent     Unavailable
//! deadline passed before a command    nothing was sent     Unavailable
//! sent, no reply before the deadline  unknown              OutcomeUnknown; connection is suspect
//! sent, the connection failed         unknown              OutcomeUnknown; connection is suspect
//! sent, Redis replied with an error   nothing was stored   by the error's code, see `rejections`
//! ```
//!
//! Only the caller knows whether commands with an unknown outcome may be sent again. `follow` sends
//! commands where the replies of a Redis Cluster point.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Script, ScriptInvocation, Value};
use sse_proto::Channel;
use tokio::time::{Instant, timeout_at};

use super::{
    dial::CommandConnection,
    errors::{CommandError, needs_check, needs_primary_reply},
    failover::LossDetector,
    follow::Followed,
    health::Health,
    replicated::{Append, NotConfirmed, ReplicatedWrites},
    replies::{Replies, parse_reply, split_replies, value_pipeline},
    sending::send_unit,
    shard::{Purpose, Routed, Shard},
    shards::Shards,
    slots::Slot,
    unit::Unit,
};
use crate::broker::BrokerError;

/// Commands that belong together; see the [module](self).
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) shards: &'a Shards,
    pub(super) shard: Arc<Shard>,
    pub(super) subject: Subject<'a>,
    pub(super) purpose: Purpose,
    pub(super) deadline: Instant,
    pub(super) connection: CommandConnection,
    /// The era of the slot in which the session uses this connection; see `LossDetector::observe`.
    era: u64,
    /// Whether commands follow a slot that has moved. The appends of a write do not: the first one at
    /// another primary differs.
    pub(super) follows_moves: bool,
    /// Whether Redis rejected the last commands because another Redis must carry them out.
    pub(super) must_repeat: bool,
    pub(super) retries: Retries,
    /// The way of appends, if replicas must confirm them.
    replicated: Option<ReplicatedWrites>,
}

/// What happens to a command that Redis cannot carry out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retries {
    /// It is sent again until the deadline.
    UntilDeadline,
    /// It is given up.
    Never,
    /// It was given up.
    GaveUp,
}

/// What the commands of a session concern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// One channel, which is verified before its first use.
    Channel(&'a Channel, Slot),
    /// Keys of a slot.
    Slot(Slot),
    /// The primary itself.
    Primary,
}

impl Subject<'_> {
    pub(super) const fn slot(self) -> Option<Slot> {
        match self {
            Self::Channel(_, slot) | Self::Slot(slot) => Some(slot),
            Self::Primary => None,
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        shards: &'a Shards,
        subject: Subject<'a>,
        (routed, purpose): (Routed, Purpose),
        deadline: Instant,
    ) -> Self {
        let Routed {
            shard,
            connections,
            era,
        } = routed;
        Self {
            shards,
            shard,
            subject,
            purpose,
            deadline,
            connection: purpose.choose(&connections),
            era,
            follows_moves: true,
            must_repeat: false,
            retries: Retries::UntilDeadline,
            replicated: None,
        }
    }

    /// Sends appends by `replicated`, if replicas must confirm them. Nothing follows a slot that has
    /// moved.
    pub(super) fn for_writes(self, replicated: Option<ReplicatedWrites>) -> Self {
        Self {
            replicated,
            follows_moves: false,
            ..self
        }
    }

    /// Whether replicas must confirm appends.
    pub(super) const fn waits_for_replicas(&self) -> bool {
        self.replicated.is_some()
    }

    /// Whether Redis rejected the last commands because another Redis must carry them out. It stored
    /// nothing then.
    pub(super) const fn must_repeat(&self) -> bool {
        self.must_repeat
    }

    /// The era of the session's slot; see [`LossDetector::observe`].
    pub(super) const fn era(&self) -> u64 {
        self.era
    }

    fn health(&self) -> &Health {
        &self.shard.connection.health
    }

    /// Uses the primary that owns the slot now.
    pub(super) async fn use_route(&mut self, routed: Routed) -> Result<(), BrokerError> {
        self.connection = self.purpose.choose(&routed.connections);
        self.shard = routed.shard;
        self.era = routed.era;
        self.verify_first_use().await
    }

    /// Verifies the channel if this is its first use in the era.
    pub(super) async fn verify_first_use(&mut self) -> Result<(), BrokerError> {
        match self.subject {
            Subject::Channel(channel, _) if self.shards.losses.needs_verification(channel) => {
                self.verify_unverified(channel).await
            }
            _ => Ok(()),
        }
    }

    /// Runs a script once and waits for its reply.
    ///
    /// A Redis that does not know the script gets it first. This is not a second attempt, because
    /// such a Redis did nothing.
    ///
    /// # Errors
    ///
    /// - `NoReply(Unavailable)`: nothing was sent.
    /// - `NoReply(OutcomeUnknown)`: no reply came.
    /// - `Rejected`: Redis replied with an error.
    pub(super) async fn run<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CommandError> {
        let reply = self.follow_script(script).await;
        if let Err(CommandError::Rejected(error)) = &reply {
            self.must_repeat = super::errors::needs_primary(error);
        }
        reply
    }

    /// Runs the `EVALSHA` of `script` once, with the errors of [`run`](Self::run).
    ///
    /// A Redis that does not know the script did nothing, so it gets the script and the command
    /// again.
    pub(super) async fn run_command(
        &mut self,
        command: Cmd,
        script: &Script,
    ) -> Result<Value, CommandError> {
        let unit = Unit::of_script(command, script);
        let replies = loop {
            match self.follow_unit(&unit).await? {
                Followed::Done(replies) => break replies,
                Followed::Restart => {}
            }
        };
        self.note_replies(&replies);
        match replies.into_iter().next() {
            Some(Value::ServerError(error)) => Err(CommandError::Rejected(error.into())),
            Some(reply) => Ok(reply),
            None => Err(self.health().no_reply("no reply to a script")),
        }
    }

    /// Appends once: the commands of `append` as one step, and then its notification. Returns the
    /// replies to the commands, or the error that rejected all of them.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub(super) async fn append(
        &mut self,
        append: Append,
        notification: Cmd,
    ) -> Result<Vec<Value>, CommandError> {
        let is_atomic = append.is_atomic;
        let all = Unit::of_append(append).followed_by(notification);
        let mut replies = self.send_once(&all).await?;
        // A failed notification does not fail the publish: a node that misses it polls.
        replies.truncate(all.len() - 1);
        if self.must_follow(&replies) {
            replies = self.follow_append(&all, replies).await?;
        }
        self.note_replies(&replies);
        Ok(Unit::results(replies, is_atomic))
    }

    /// Sends an append once, and waits until replicas confirm it. Error replies are values.
    ///
    /// # Errors
    ///
    /// - `NoReply(Unavailable)`: nothing was sent.
    /// - `NoReply(OutcomeUnknown)`: too few replicas have confirmed it, or no reply came.
    pub(super) async fn append_replicated(
        &mut self,
        append: Append,
    ) -> Result<Vec<Value>, CommandError> {
        let Some(replicated) = &self.replicated else {
            return Err(self.health().not_sent());
        };
        match replicated.send(append, self.deadline).await {
            Ok(replies) => {
                self.note_replies(&replies);
                self.note_move(&replies);
                Ok(replies)
            }
            Err(NotConfirmed::NotSent(reason)) => {
                Err(CommandError::NoReply(self.health().unavailable(reason)))
            }
            Err(NotConfirmed::Unknown(reason)) => Err(self.health().no_reply(&reason)),
        }
    }

    /// Passes what error replies show about the connection to its supervisor.
    pub(super) fn note_replies(&mut self, replies: &[Value]) {
        let health = &self.shard.connection.health;
        if replies.iter().any(needs_primary_reply) {
            self.must_repeat = true;
            health.not_primary.notify_one();
        }
        let is_suspect = |reply: &Value| matches!(reply, Value::ServerError(error) if needs_check(&error.clone().into()));
        if replies.iter().any(is_suspect) {
            health.suspect.notify_one();
        }
    }

    /// Sends commands that change no event: without a reply, no outcome is unknown. An error reply to
    /// one of them is a value, which the parsers of `replies` find.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no reply came.
    pub(super) async fn query_all(
        &mut self,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<Vec<Value>, BrokerError> {
        let replies = self.follow_all(value_pipeline(commands)).await;
        let replies = replies.map_err(CommandError::into_query_error)?;
        self.note_replies(&replies);
        Ok(replies)
    }

    /// Sends one command that changes no event.
    ///
    /// # Errors
    ///
    /// - `Unavailable`: no reply came, or Redis rejected the command.
    /// - `Full`: Redis is at its memory limit.
    pub(super) async fn query_one<T: FromRedisValue>(
        &mut self,
        command: Cmd,
    ) -> Result<T, BrokerError> {
        let [reply] = self.query_values([command]).await?;
        parse_reply(reply)
    }

    /// Sends commands that change no event, like [`query_all`](Self::query_all).
    pub(super) async fn query_values<const N: usize>(&mut self, commands: [Cmd; N]) -> Replies<N> {
        split_replies(self.query_all(commands).await?)
    }

    /// Sends a unit on the session's connection. Error replies are values.
    pub(super) async fn send_once(&mut self, unit: &Unit<'_>) -> Result<Vec<Value>, CommandError> {
        let health = &self.shard.connection.health;
        send_unit(health, self.deadline, unit, &mut self.connection).await
    }

    /// Verifies the newest ids of `channel`, and records a loss if Redis has lost them.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the channel could not be verified.
    pub(super) async fn verify(&mut self, channel: &Channel) -> Result<(), BrokerError> {
        self.verify_ids(channel, &self.shards.losses, true).await
    }

    /// Verifies the unverified ids of `channel`, with the errors of [`verify`](Self::verify).
    pub(super) async fn verify_unverified(&mut self, channel: &Channel) -> Result<(), BrokerError> {
        self.verify_ids(channel, &self.shards.losses, false).await
    }

    async fn verify_ids(
        &mut self,
        channel: &Channel,
        losses: &LossDetector,
        with_newest: bool,
    ) -> Result<(), BrokerError> {
        let verified = losses.verify(channel, &mut self.connection, with_newest);
        match timeout_at(self.deadline, verified).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.health().unavailable(&error.to_string())),
            Err(_) => Err(self.health().unavailable("no response in time")),
        }
    }
}
