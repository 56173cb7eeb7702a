//! A Redis to which `sse-server copy` copies a log.
//!
//! A step of a copy is one script on the keys of one channel, so it works on every Redis that nodes
//! use. While a copy is not complete, the number of the format keeps nodes from starting: they would
//! serve half of the log, and number new events before the copied ones.
//!
//! | file | contents |
//! |---|---|
//! | `plan` | what must be done with a channel |
//! | `step` | the arguments and the reply of `copy.lua` |

mod plan;
mod step;

use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use sse_proto::Channel;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::step::{COPIED, copy_script, parse_reply};
pub(crate) use self::{
    plan::{CopyWork, Found, Refusal, plan_work},
    step::{Step, StepReply},
};
use super::{
    channel_state::{parse_state, parse_tombstone},
    connection::Connection,
    dial::Dialer,
    errors::RedisSetupError,
    failover::LossDetector,
    format::{COPYING, FORMAT, FormatCheck, FormatUse},
    names::Names,
    nodes::{parse_fields, report},
    replies::{check_rejection, into_array, malformed, parse_time_ms, text},
    reply_limit::reply_cost_max,
    revocations::add_command,
    scripts::{COPY, STREAM_EXTENT_TEXT},
    target::{RedisLogin, Target},
    tasks::Tasks,
};
use crate::{
    broker::{BrokerError, revocations::StoredRevocation},
    metrics::Metrics,
};

/// How long an unavailable Redis is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of the largest reply, which is the list of the nodes.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Which Redis a log is copied to.
#[derive(Debug, Clone)]
pub(crate) struct CopyTargetOptions {
    pub(crate) url: String,
    pub(crate) login: RedisLogin,
    pub(crate) prefix: String,
    /// Longest time for a step to be answered.
    pub(crate) timeout: Duration,
}

/// A Redis that gets a copy.
#[derive(Debug)]
pub(crate) struct CopyTarget {
    connection: Connection,
    names: Names,
    _tasks: DropGuard,
}

/// Who uses a target.
#[derive(Debug)]
pub(crate) struct TargetUse {
    /// The nodes that run.
    pub(crate) nodes: Vec<String>,
    pub(crate) has_channels: bool,
    /// Whether a copy was begun and is not complete.
    pub(crate) is_unfinished: bool,
}

impl CopyTarget {
    /// Connects to the Redis.
    ///
    /// # Errors
    ///
    /// The URL, an account or a certificate cannot be used, or the Redis has keys of another format.
    pub(crate) async fn connect(options: &CopyTargetOptions) -> Result<Self, RedisSetupError> {
        let target = Target::open(&options.url, &options.login).map_err(RedisSetupError::Target)?;
        let dialer = Dialer::new(target, reply_cost_max(REPLY_BYTES_MAX));
        let names = Names::new(&options.prefix);
        // The target knows no ids, so there is nothing to verify.
        let losses = LossDetector::new(
            names.clone(),
            Duration::from_hours(1),
            1,
            Metrics::default(),
        );
        let runtime = Handle::current();
        let tasks = Tasks {
            runtime: &runtime,
            ended: CancellationToken::new(),
        };
        let guard = tasks.ended.clone().drop_guard();
        let format = FormatCheck {
            names: names.clone(),
            usage: FormatUse::Copy,
        };
        let (connection, _) =
            tasks.start_connection(dialer, format, options.timeout, losses.into());
        connection.wait_for_first().await?;
        Ok(Self {
            connection,
            names,
            _tasks: guard,
        })
    }

    /// Looks at who uses the target.
    pub(crate) async fn inspect(&self) -> Result<TargetUse, BrokerError> {
        let (time, mut nodes, mut channels) = (cmd("TIME"), cmd("HGETALL"), cmd("ZCARD"));
        nodes.arg(self.names.nodes());
        channels.arg(self.names.index());
        let commands = [time, nodes, channels, Cmd::get(self.names.format())];
        let [time, nodes, channels, format] = self.query(commands).await?;
        let now_ms = parse_time_ms(time)?;
        let nodes = parse_fields(nodes)?.into_iter();
        let running = nodes.filter_map(|(node, value)| report(node, &value, now_ms));
        Ok(TargetUse {
            nodes: running.map(|report| report.node).collect(),
            has_channels: check_rejection(channels)? != Value::Int(0),
            is_unfinished: text(check_rejection(format)?) == Some(COPYING.to_string()),
        })
    }

    /// Marks the target as a copy that is not complete, so that no node starts.
    pub(crate) async fn mark_unfinished(&self) -> Result<(), BrokerError> {
        self.set_format(COPYING).await
    }

    /// Marks the copy as complete, so that nodes start.
    pub(crate) async fn mark_complete(&self) -> Result<(), BrokerError> {
        self.set_format(FORMAT).await
    }

    async fn set_format(&self, format: u32) -> Result<(), BrokerError> {
        let [reply] = self.query([Cmd::set(self.names.format(), format)]).await?;
        check_rejection(reply).map(drop)
    }

    /// Adds revoked credentials.
    pub(crate) async fn add_revocations(
        &self,
        revocations: &[StoredRevocation],
    ) -> Result<(), BrokerError> {
        for part in revocations.chunks(1000) {
            let command = add_command(&self.names.revocations(), part);
            let [reply] = self.query([command]).await?;
            check_rejection(reply)?;
        }
        Ok(())
    }

    /// Looks at what the target has of a channel.
    pub(crate) async fn find(&self, channel: &Channel) -> Result<Found, BrokerError> {
        let (mut extent, mut mark, mut tombstone) = (cmd("EVAL"), cmd("HGET"), cmd("ZRANGE"));
        extent.arg(STREAM_EXTENT_TEXT.as_str()).arg(3);
        extent.arg(&self.names.state(channel));
        mark.arg(self.names.life(channel)).arg("copied");
        tombstone.arg(self.names.deleted(channel)).arg(-1).arg(-1);
        let commands = [extent, mark, tombstone];
        let [state, mark, tombstone] = retry(|| self.query_in(channel, commands.clone())).await?;
        let state = parse_state(state)?;
        let is_marked = check_rejection(mark)? != Value::Nil;
        let tombstone = into_array(check_rejection(tombstone)?)
            .ok_or_else(|| malformed("no members for a ZRANGE"))?;
        let tombstone = tombstone.into_iter().next().and_then(text);
        let is_copied_tombstone = tombstone
            .as_ref()
            .is_none_or(|member| member.ends_with(COPIED));
        Ok(Found {
            last: state.exists.then_some(state.extent.last),
            tombstone: tombstone.and_then(|member| parse_tombstone(&member)),
            is_copied: is_copied_tombstone && (is_marked || !state.exists),
        })
    }

    /// Carries out a step. A step whose outcome is unknown is sent again, and has no second effect.
    pub(crate) async fn write(&self, step: &Step<'_>) -> Result<StepReply, BrokerError> {
        let command = copy_script(&self.names, step);
        let channel = &step.channel.channel;
        let reply = retry(|| self.run_in(channel, command.clone())).await?;
        parse_reply(check_rejection(reply)?)
    }

    async fn run_in(&self, channel: &Channel, command: Cmd) -> Result<Value, BrokerError> {
        let mut session = self.connection.session(channel).await?;
        Ok(session.run_command(command, &COPY).await?)
    }

    async fn query_in<const N: usize>(
        &self,
        channel: &Channel,
        commands: [Cmd; N],
    ) -> Result<[Value; N], BrokerError> {
        let mut session = self.connection.session(channel).await?;
        session.query_values(commands).await
    }

    async fn query<const N: usize>(&self, commands: [Cmd; N]) -> Result<[Value; N], BrokerError> {
        retry(async || {
            let mut session = self.connection.common_session().await?;
            session.query_values(commands.clone()).await
        })
        .await
    }
}

/// Repeats what has no second effect until Redis answers, up to a time limit.
async fn retry<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, BrokerError>,
) -> Result<T, BrokerError> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(BrokerError::Unavailable(_) | BrokerError::OutcomeUnknown(_))
                if started.elapsed() < PATIENCE => {}
            result => return result,
        }
        sleep(RETRY_INTERVAL).await;
    }
}
