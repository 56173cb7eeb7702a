//! A session: commands that belong together, all on one connection and under one deadline.
//!
//! A session never sends a command twice. What a failure means depends on when it happens:
//!
//! ```text
//! no connection before the deadline   nothing was sent     Unavailable
//! deadline passed before a command    nothing was sent     Unavailable
//! sent, no reply before the deadline  unknown              OutcomeUnknown; connection is suspect
//! sent, the connection failed         unknown              OutcomeUnknown; connection is suspect
//! sent, Redis replied with an error   nothing was stored   by the error's code, see `errors`
//! ```
//!
//! Only the caller knows whether commands with an unknown outcome may be sent again.

use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Script, ScriptInvocation, Value};
use sse_proto::Channel;
use tokio::time::{Instant, timeout_at};

use super::{
    dial::CommandConnection,
    errors::{CommandError, is_unknown_script, needs_primary, needs_primary_reply},
    failover::LossDetector,
    health::Health,
    replicated::{Append, NotConfirmed, ReplicatedWrites},
    replies::{Replies, split_replies, value_pipeline},
};
use crate::broker::BrokerError;

/// Commands that belong together; see the [module](self).
#[derive(Debug)]
pub(super) struct Session<'a> {
    health: &'a Health,
    deadline: Instant,
    connection: CommandConnection,
    era: u64,
    was_rejected_by_replica: bool,
    /// The way of appends, if replicas must confirm them.
    replicated: Option<ReplicatedWrites>,
}

impl<'a> Session<'a> {
    /// `era` is the one in which `connection` was verified; see [`LossDetector::observe`].
    pub(super) fn new(
        health: &'a Health,
        deadline: Instant,
        (connection, era): (CommandConnection, u64),
    ) -> Self {
        Self {
            health,
            deadline,
            connection,
            era,
            was_rejected_by_replica: false,
            replicated: None,
        }
    }

    /// Sends appends by `replicated`, if replicas must confirm them.
    pub(super) fn with_replicated(self, replicated: Option<ReplicatedWrites>) -> Self {
        Self { replicated, ..self }
    }

    /// Whether replicas must confirm appends.
    pub(super) const fn waits_for_replicas(&self) -> bool {
        self.replicated.is_some()
    }

    /// Whether Redis rejected the last commands because it is no primary. It stored nothing then.
    pub(super) const fn was_rejected_by_replica(&self) -> bool {
        self.was_rejected_by_replica
    }

    /// The era of the session's connection; see [`LossDetector::observe`].
    pub(super) const fn era(&self) -> u64 {
        self.era
    }

    /// Sends commands once and waits for their replies.
    ///
    /// # Errors
    ///
    /// - `NoReply(Unavailable)`: nothing was sent.
    /// - `NoReply(OutcomeUnknown)`: no reply came.
    /// - `Rejected`: Redis replied with an error.
    pub(super) async fn send<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Result<T, CommandError> {
        let reply = commands.query_async(&mut self.connection);
        let reply = send_before(self.health, self.deadline, reply).await;
        self.note(reply)
    }

    /// Runs a script once and waits for its reply, with the errors of [`send`](Self::send).
    ///
    /// A Redis that does not know the script gets it first. This is not a second attempt, because
    /// such a Redis did nothing.
    pub(super) async fn run<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CommandError> {
        let reply = script.invoke_async(&mut self.connection);
        let reply = send_before(self.health, self.deadline, reply).await;
        self.note(reply)
    }

    /// Sends commands whose error replies are values, with the errors of [`send`](Self::send).
    pub(super) async fn send_values(
        &mut self,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, CommandError> {
        let replies: Vec<Value> = self.send(commands).await?;
        self.note_replies(&replies);
        Ok(replies)
    }

    /// Runs the `EVALSHA` of `script` once, with the errors of [`send`](Self::send).
    ///
    /// A Redis that does not know the script did nothing, so it gets the script and the command
    /// again.
    pub(super) async fn run_command(
        &mut self,
        command: Cmd,
        script: &Script,
    ) -> Result<Value, CommandError> {
        let mut commands = redis::pipe();
        commands.add_command(command);
        let reply: Result<(Value,), _> = self.send(&commands).await;
        let reply = match reply {
            Err(CommandError::Rejected(error)) if is_unknown_script(&error) => {
                let loaded = script.load_async(&mut self.connection);
                let _: String = send_before(self.health, self.deadline, loaded).await?;
                self.send(&commands).await
            }
            reply => reply,
        };
        reply.map(|(reply,)| reply)
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
            return Err(self.health.not_sent());
        };
        match replicated.send(append, self.deadline).await {
            Ok(replies) => {
                self.note_replies(&replies);
                Ok(replies)
            }
            Err(NotConfirmed::NotSent(reason)) => {
                Err(CommandError::NoReply(self.health.unavailable(reason)))
            }
            Err(NotConfirmed::Unknown(reason)) => Err(self.health.no_reply(&reason)),
        }
    }

    fn note_replies(&mut self, replies: &[Value]) {
        self.was_rejected_by_replica = replies.iter().any(needs_primary_reply);
        if self.was_rejected_by_replica {
            self.health.not_primary.notify_one();
        }
    }

    fn note<T>(&mut self, reply: Result<T, CommandError>) -> Result<T, CommandError> {
        let is_rejected =
            matches!(&reply, Err(CommandError::Rejected(error)) if needs_primary(error));
        self.was_rejected_by_replica = is_rejected;
        reply
    }

    /// Sends commands that change no event: without a reply, no outcome is unknown.
    ///
    /// # Errors
    ///
    /// - `Unavailable`: no reply came, or Redis rejected a command.
    /// - `Full`: Redis is at its memory limit.
    pub(super) async fn query<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Result<T, BrokerError> {
        let reply = self.send(commands).await;
        reply.map_err(CommandError::into_query_error)
    }

    /// Sends one command that changes no event, with the errors of [`query`](Self::query).
    pub(super) async fn query_one<T: FromRedisValue>(
        &mut self,
        command: Cmd,
    ) -> Result<T, BrokerError> {
        let (reply,) = self.query(redis::pipe().add_command(command)).await?;
        Ok(reply)
    }

    /// Sends commands that change no event. An error reply to one of them is a value, which the
    /// parsers of `replies` find.
    pub(super) async fn query_values<const N: usize>(&mut self, commands: [Cmd; N]) -> Replies<N> {
        let replies = self.send_values(&value_pipeline(commands)).await;
        split_replies(replies.map_err(CommandError::into_query_error)?)
    }

    /// Verifies the newest ids of `channel`, and records a loss if Redis has lost them.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the channel could not be verified.
    pub(super) async fn verify(
        &mut self,
        channel: &Channel,
        losses: &LossDetector,
    ) -> Result<(), BrokerError> {
        let verified = losses.verify(channel, &mut self.connection);
        match timeout_at(self.deadline, verified).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.health.unavailable(&error.to_string())),
            Err(_) => Err(self.health.unavailable("no response in time")),
        }
    }
}

/// Sends commands by polling `reply`, unless `deadline` has passed, and waits for the reply until
/// then.
async fn send_before<T>(
    health: &Health,
    deadline: Instant,
    reply: impl Future<Output = RedisResult<T>>,
) -> Result<T, CommandError> {
    if Instant::now() >= deadline {
        return Err(health.not_sent());
    }
    receive(health, deadline, reply).await
}

/// Waits for `reply` until `deadline`, and passes what a failure shows about the connection to its
/// supervisor.
async fn receive<T>(
    health: &Health,
    deadline: Instant,
    reply: impl Future<Output = RedisResult<T>>,
) -> Result<T, CommandError> {
    let Ok(reply) = timeout_at(deadline, reply).await else {
        return Err(health.no_reply(&health.timed_out()));
    };
    reply.map_err(|error| health.command_error(error))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Error, ErrorKind},
        time::Duration,
    };

    use tokio::sync::Notify;

    use super::*;

    fn health() -> Health {
        Health::new("localhost:6379".to_owned(), Duration::from_secs(2))
    }

    async fn is_notified(notify: &Notify) -> bool {
        tokio::time::timeout(Duration::ZERO, notify.notified())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_reply_the_outcome_is_unknown_and_the_connection_suspect() {
        let health = health();
        let deadline = Instant::now() + health.timeout;
        let silent = receive::<()>(&health, deadline, std::future::pending()).await;
        let broken = async { Err(Error::from(ErrorKind::ConnectionReset).into()) };
        let broken = receive::<()>(&health, deadline, broken).await;
        for reply in [silent, broken] {
            assert!(matches!(
                reply,
                Err(CommandError::NoReply(BrokerError::OutcomeUnknown(_)))
            ));
        }
        assert!(is_notified(&health.suspect).await && !is_notified(&health.not_primary).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_only_reply_makes_the_supervisor_reconnect() {
        let health = health();
        let deadline = Instant::now() + health.timeout;
        let reply = redis::parse_redis_value(b"-READONLY You can't write against a replica.\r\n")
            .and_then(redis::Value::extract_error);
        let reply = receive(&health, deadline, async { reply }).await;
        assert!(matches!(reply, Err(CommandError::Rejected(_))));
        assert!(is_notified(&health.not_primary).await && !is_notified(&health.suspect).await);
    }
}
