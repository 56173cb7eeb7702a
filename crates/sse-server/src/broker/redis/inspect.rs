//! Looks at a Redis without a broker, for `sse-server check`.

use std::time::{Duration, SystemTime};

use redis::{RedisResult, Value};
use tokio::time::timeout;

use super::{
    cluster::find_any_primary,
    dial::{CommandConnection, Dialer},
    durability::read_warnings,
    handshake::ping,
    info::{info_value, read_section, unsupported_version},
    target::{RedisLogin, Target},
};
use crate::broker::Warning;

/// Bytes of the largest reply, which is a section of `INFO`.
const REPLY_COST_MAX: u64 = 1 << 20;

/// What a Redis reports about itself.
#[derive(Debug)]
pub struct RedisFacts {
    /// Its address, without secrets.
    pub address: String,
    /// Its version, if it is too old.
    pub unsupported_version: Option<String>,
    /// How it may lose what it acknowledges.
    pub warnings: Vec<Warning>,
    /// It accepts no writes.
    pub is_replica: bool,
    /// Bytes that it may use, 0 without a limit; `None` if that is unknown.
    pub maxmemory: Option<u64>,
    /// How far its clock differs from the one of this machine; `None` if that is unknown.
    pub clock_skew: Option<Duration>,
}

/// Connects to a Redis, to the primary that its sentinels name, or to one of a cluster, asks it about itself, and closes
/// the connection.
///
/// # Errors
///
/// A sentence about what was tried and what to do.
pub async fn inspect(url: &str, login: &RedisLogin, limit: Duration) -> Result<RedisFacts, String> {
    let dialer = Dialer::new(Target::open(url, login)?, REPLY_COST_MAX);
    let address = dialer.address();
    match timeout(limit, read_facts(&dialer, limit)).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => Err(format!(
            "Redis at {address} does not respond ({error}): start it, or check --redis-url"
        )),
        Err(_) => Err(format!(
            "Redis at {address} does not respond within --redis-timeout: check it and the network"
        )),
    }
}

async fn read_facts(dialer: &Dialer, limit: Duration) -> Result<RedisFacts, String> {
    let primary = match dialer.cluster_nodes() {
        Some(_) => find_any_primary(dialer).await?,
        None => dialer.find_primary().await?,
    };
    let connected = dialer.open_commands(&primary, limit).await;
    let mut connection = connected.map_err(|error| error.to_string())?;
    ask(dialer.address(), &mut connection)
        .await
        .map_err(|error| error.to_string())
}

async fn ask(address: String, connection: &mut CommandConnection) -> RedisResult<RedisFacts> {
    ping(connection).await?;
    let server = read_section(connection, "server").await?;
    let memory = read_section(connection, "memory").await?;
    let replication = read_section(connection, "replication").await?;
    Ok(RedisFacts {
        address,
        unsupported_version: unsupported_version(&server).map(str::to_owned),
        warnings: read_warnings(connection).await?,
        is_replica: info_value(&replication, "role") == Some("slave"),
        maxmemory: info_value(&memory, "maxmemory").and_then(|bytes| bytes.parse().ok()),
        clock_skew: read_clock_skew(connection).await,
    })
}

/// Returns `None` if this user may not read the time.
async fn read_clock_skew(connection: &mut CommandConnection) -> Option<Duration> {
    let reply: RedisResult<Value> = redis::cmd("TIME").query_async(connection).await;
    let (seconds, micros): (u64, u64) = redis::from_redis_value(reply.ok()?).ok()?;
    let theirs = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let ours = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(ours.abs_diff(theirs))
}
