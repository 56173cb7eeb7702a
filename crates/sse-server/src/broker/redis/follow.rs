//! Sends commands where the replies of a Redis Cluster point.
//!
//! | reply | what happens |
//! |---|---|
//! | `MOVED` | the slot has another owner: the map changes, and all commands are sent there |
//! | `ASK` | the slot is moving: each command is sent separately to the node that has its keys |
//! | `TRYAGAIN`, `CLUSTERDOWN` | the command is sent again after a pause |
//!
//! Each of them proves that the command did nothing. After the deadline, the reply is the result.

use std::time::Duration;

use redis::{
    Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, ScriptInvocation, Value,
    aio::ConnectionLike,
};
use tokio::time::{Instant, sleep};

use super::{
    dial::CommandConnection,
    errors::CommandError,
    redirects::{NodeAddress, Redirect, find_redirect, redirect_of},
    replies::value_pipeline,
    sending::{send_before, send_unit},
    session::{Retries, Session},
    slots::Slot,
    unit::Unit,
};

/// Pause before a command is sent again.
const PAUSE: Duration = Duration::from_millis(15);

/// What became of a unit.
pub(super) enum Followed {
    Done(Vec<Value>),
    /// The slot has another owner, and the session uses it now. Nothing was done.
    Restart,
}

impl Session<'_> {
    /// Whether a reply sends its command elsewhere.
    pub(super) fn must_follow(&self, replies: &[Value]) -> bool {
        self.redirect_in(replies).is_some()
    }

    fn redirect_in(&self, replies: &[Value]) -> Option<Redirect> {
        let can_follow = self.shards.is_cluster() && self.subject.slot().is_some();
        find_redirect(can_follow.then_some(replies)?)
    }

    /// Sends commands that only read, or that change no event.
    pub(super) async fn follow_all(
        &mut self,
        commands: Pipeline,
    ) -> Result<Vec<Value>, CommandError> {
        let all = Unit {
            commands,
            script: None,
        };
        loop {
            let replies = self.send_once(&all).await?;
            match self.redirect_in(&replies) {
                None => return Ok(replies),
                Some(Redirect::Moved(slot, address)) => {
                    if !self.follow_move(slot, &address).await? {
                        return Ok(replies);
                    }
                }
                Some(Redirect::Ask(_) | Redirect::TryAgain) => {
                    if let Followed::Done(replies) = self.follow_each(&all).await? {
                        return Ok(replies);
                    }
                }
            }
        }
    }

    /// Sends the commands of `all` in order, each to the node that has its keys.
    async fn follow_each(&mut self, all: &Unit<'_>) -> Result<Followed, CommandError> {
        let mut replies = Vec::with_capacity(all.len());
        for command in all.commands.cmd_iter() {
            match self.follow_unit(&Unit::of_command(command)).await? {
                Followed::Done(reply) => replies.extend(reply),
                Followed::Restart => return Ok(Followed::Restart),
            }
        }
        Ok(Followed::Done(replies))
    }

    /// Sends a unit until a node carries it out, or the deadline passes.
    pub(super) async fn follow_unit(&mut self, unit: &Unit<'_>) -> Result<Followed, CommandError> {
        loop {
            let mut replies = self.send_once(unit).await?;
            match self.redirect_in(&replies) {
                None => return Ok(Followed::Done(replies)),
                Some(Redirect::Moved(slot, address)) => {
                    return Ok(if self.follow_move(slot, &address).await? {
                        Followed::Restart
                    } else {
                        Followed::Done(replies)
                    });
                }
                Some(Redirect::Ask(address)) => {
                    replies = self.ask(&address, unit).await?;
                    if !self.must_follow(&replies) {
                        return Ok(Followed::Done(replies));
                    }
                }
                Some(Redirect::TryAgain) => self.note_try_again(),
            }
            if !self.pause().await {
                return Ok(Followed::Done(replies));
            }
        }
    }

    /// Sends the appends of `all`, which `replies` have rejected, and then their notification.
    ///
    /// Subscribers stay with the owner of the slot until it has moved, so that is where the
    /// notification goes.
    pub(super) async fn follow_append(
        &mut self,
        all: &Unit<'_>,
        replies: Vec<Value>,
    ) -> Result<Vec<Value>, CommandError> {
        if let Some(Redirect::Moved(slot, address)) = self.redirect_in(&replies) {
            self.follow_move(slot, &address).await?;
            return Ok(replies);
        }
        let (appends, notification) = all.split_last();
        let replies = match self.follow_unit(&appends).await? {
            Followed::Done(replies) => replies,
            Followed::Restart => self.send_once(&appends).await?,
        };
        if let (false, Some(notification)) = (self.must_follow(&replies), notification) {
            // A failed notification fails nothing: a node that misses it polls.
            let _ = self.send_once(&notification).await;
        }
        Ok(replies)
    }

    /// Runs a script where its keys are.
    pub(super) async fn follow_script<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CommandError> {
        loop {
            let health = &self.shard.connection.health;
            let reply = script.invoke_async(&mut self.connection);
            let mut reply = send_before(health, self.deadline, reply).await;
            match self.redirect_in_error(&reply) {
                None => return reply,
                Some(Redirect::Moved(slot, address)) => {
                    if !self.follow_move(slot, &address).await? {
                        return reply;
                    }
                    continue;
                }
                Some(Redirect::Ask(address)) => {
                    let (shard, connection) = self.find_node(&address).await?;
                    let mut asking = AskingConnection(connection);
                    let asked = script.invoke_async(&mut asking);
                    reply = send_before(&shard.connection.health, self.deadline, asked).await;
                    if self.redirect_in_error(&reply).is_none() {
                        return reply;
                    }
                }
                Some(Redirect::TryAgain) => self.note_try_again(),
            }
            if !self.pause().await {
                return reply;
            }
        }
    }

    fn redirect_in_error<T>(&self, reply: &Result<T, CommandError>) -> Option<Redirect> {
        let Err(CommandError::Rejected(error)) = reply else {
            return None;
        };
        let errors = RedisError::clone(error).into_server_errors()?;
        let (_, first) = errors.first()?;
        let can_follow = self.shards.is_cluster() && self.subject.slot().is_some();
        redirect_of(first).filter(|_| can_follow)
    }

    /// Records that the slot of rejected commands has moved, for the next attempt.
    pub(super) fn note_move(&mut self, replies: &[Value]) {
        match self.redirect_in(replies) {
            Some(Redirect::Moved(slot, address)) => {
                self.shard.metrics.record_moved();
                if let Some(address) = address.seen_from(&self.shard.address) {
                    self.shards.note_moved(slot, address);
                }
                self.must_repeat = true;
            }
            Some(Redirect::Ask(_) | Redirect::TryAgain) => {
                self.shard.metrics.record_asked();
                self.must_repeat = true;
            }
            None => {}
        }
    }

    /// Records that a slot has moved. Returns true if the session uses its new owner now.
    async fn follow_move(
        &mut self,
        moved: Slot,
        address: &NodeAddress,
    ) -> Result<bool, CommandError> {
        self.shard.metrics.record_moved();
        let (Some(slot), Some(address)) =
            (self.subject.slot(), address.seen_from(&self.shard.address))
        else {
            return Ok(false);
        };
        self.shards.note_moved(moved, address);
        self.must_repeat = true;
        if !self.follows_moves {
            return Ok(false);
        }
        let route = self.shards.route(slot, Some(self.era()), self.deadline);
        let routed = route.await.map_err(CommandError::NoReply)?;
        self.use_route(routed)
            .await
            .map_err(CommandError::NoReply)?;
        self.must_repeat = false;
        Ok(true)
    }

    /// Records that some keys of a command are at another node already, or that no node serves them.
    fn note_try_again(&self) {
        self.shard.metrics.record_asked();
        self.shards.request_map();
    }

    /// Sends a unit to a node that is about to own the slot.
    async fn ask(
        &self,
        address: &NodeAddress,
        unit: &Unit<'_>,
    ) -> Result<Vec<Value>, CommandError> {
        let (shard, mut connection) = self.find_node(address).await?;
        let health = &shard.connection.health;
        let unit = unit.asking();
        let asked = send_unit(health, self.deadline, &unit, &mut connection);
        let mut replies = asked.await?;
        // The first reply is that of `ASKING`.
        Ok(replies.split_off(replies.len().min(1)))
    }

    async fn find_node(
        &self,
        address: &NodeAddress,
    ) -> Result<(std::sync::Arc<super::shard::Shard>, CommandConnection), CommandError> {
        self.shard.metrics.record_asked();
        let address = address.seen_from(&self.shard.address);
        let found = self.shards.find_node(address, self.deadline).await;
        let (shard, connections) = found.map_err(CommandError::NoReply)?;
        Ok((shard, self.purpose.choose(&connections)))
    }

    /// Waits before another attempt; returns false if the deadline comes first.
    async fn pause(&mut self) -> bool {
        if self.retries != Retries::UntilDeadline {
            self.retries = Retries::GaveUp;
            return false;
        }
        let is_early = Instant::now() + PAUSE < self.deadline;
        if is_early {
            sleep(PAUSE).await;
        }
        is_early
    }
}

/// Precedes each command with `ASKING`.
struct AskingConnection(CommandConnection);

impl ConnectionLike for AskingConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let commands = value_pipeline([redis::cmd("ASKING"), command.clone()]);
            let mut replies = self.0.req_packed_commands(&commands, 0, 2).await?;
            Ok(replies.pop().unwrap_or(Value::Nil))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}
