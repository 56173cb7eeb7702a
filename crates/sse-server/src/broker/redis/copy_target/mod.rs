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

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, Value, cmd};
use sse_proto::Channel;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::DropGuard;

use self::step::{COPIED, copy_script, parse_reply};
pub(crate) use self::{
    plan::{CopyWork, Found, Refusal, plan_work},
    step::{Step, StepReply},
};
use super::{
    RedisOptions,
    channel_state::{parse_state, parse_tombstone},
    errors::RedisSetupError,
    format::{COPYING, FORMAT, FormatUse},
    nodes::{parse_fields, report},
    replies::{check_rejection, into_array, malformed, parse_time_ms, text},
    revocations::add_command,
    scripts::{COPY, stream_extent},
    shards::Shards,
    slots::{Slot, Slots},
    start::Started,
    target::RedisLogin,
};
use crate::{
    broker::{BrokerError, Retention, idempotency::KeyLimits, revocations::StoredRevocation},
    metrics::Metrics,
};

/// How long an unavailable Redis is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of the largest reply, which is the list of the nodes.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// A copy trims nothing, and remembers no ids that it would have to verify.
const NO_RETENTION: Retention = Retention {
    events_max: NonZeroUsize::MIN,
    age_max: Duration::from_hours(1),
    bytes_max: 1,
    channels_max: 1,
    keys: KeyLimits {
        window: Duration::from_mins(1),
        keys_max: 1,
        bytes_max: 1,
    },
};

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
    shards: Arc<Shards>,
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
        let redis = RedisOptions {
            url: &options.url,
            login: &options.login,
            prefix: &options.prefix,
            timeout: options.timeout,
            replicas_to_wait_for: 0,
            followed_max: 1,
            upgrades: false,
            flask_sse: &[],
            event_bytes_max: REPLY_BYTES_MAX,
        };
        let runtime = Handle::current();
        let metrics = Metrics::default();
        let started = Started::start(&redis, FormatUse::Copy, &NO_RETENTION, &metrics, &runtime)?;
        let guard = started.tasks.ended.clone().drop_guard();
        started.shards.wait_for_first().await?;
        Ok(Self {
            shards: started.shards,
            _tasks: guard,
        })
    }

    /// Looks at who uses the target.
    pub(crate) async fn inspect(&self) -> Result<TargetUse, BrokerError> {
        let names = &self.shards.names;
        let (node_key, format_key) = (names.nodes(), names.format());
        let mut nodes = cmd("HGETALL");
        nodes.arg(&node_key);
        let [time, nodes] = self.query(&node_key, [cmd("TIME"), nodes]).await?;
        let [format] = self.query(&format_key, [Cmd::get(&format_key)]).await?;
        let now_ms = parse_time_ms(time)?;
        let nodes = parse_fields(nodes)?.into_iter();
        let running = nodes.filter_map(|(node, value)| report(node, &value, now_ms));
        Ok(TargetUse {
            nodes: running.map(|report| report.node).collect(),
            has_channels: self.has_channels().await?,
            is_unfinished: text(check_rejection(format)?) == Some(COPYING.to_string()),
        })
    }

    /// Whether the target has channels. A Redis Cluster has no set of all channels.
    async fn has_channels(&self) -> Result<bool, BrokerError> {
        let names = &self.shards.names;
        if names.slots() == Slots::Cluster {
            return Ok(true);
        }
        let index = names.index(Slot::new(0));
        let mut count = cmd("ZCARD");
        count.arg(&index);
        let [channels] = self.query(&index, [count]).await?;
        Ok(check_rejection(channels)? != Value::Int(0))
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
        let key = self.shards.names.format();
        let [reply] = self.query(&key, [Cmd::set(&key, format)]).await?;
        check_rejection(reply).map(drop)
    }

    /// Adds revoked credentials.
    pub(crate) async fn add_revocations(
        &self,
        revocations: &[StoredRevocation],
    ) -> Result<(), BrokerError> {
        for part in revocations.chunks(1000) {
            let key = self.shards.names.revocations();
            let [reply] = self.query(&key, [add_command(&key, part)]).await?;
            check_rejection(reply)?;
        }
        Ok(())
    }

    /// Looks at what the target has of a channel.
    pub(crate) async fn find(&self, channel: &Channel) -> Result<Found, BrokerError> {
        let names = &self.shards.names;
        let (mut mark, mut tombstone) = (cmd("HGET"), cmd("ZRANGE"));
        mark.arg(names.life(channel)).arg("copied");
        tombstone.arg(names.deleted(channel)).arg(-1).arg(-1);
        let commands = [stream_extent(names, channel), mark, tombstone];
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
        let command = copy_script(&self.shards.names, step);
        let channel = &step.channel.channel;
        let reply = retry(|| self.run_in(channel, command.clone())).await?;
        parse_reply(check_rejection(reply)?)
    }

    async fn run_in(&self, channel: &Channel, command: Cmd) -> Result<Value, BrokerError> {
        let mut session = self.shards.session(channel).await?;
        let script = COPY.of(&self.shards.names);
        Ok(session.run_command(command, script).await?)
    }

    async fn query_in<const N: usize>(
        &self,
        channel: &Channel,
        commands: [Cmd; N],
    ) -> Result<[Value; N], BrokerError> {
        let mut session = self.shards.session(channel).await?;
        session.query_values(commands).await
    }

    /// Sends commands on one key that belongs to no channel.
    async fn query<const N: usize>(
        &self,
        key: &str,
        commands: [Cmd; N],
    ) -> Result<[Value; N], BrokerError> {
        retry(async || {
            let mut session = self.shards.key_session(key).await?;
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
