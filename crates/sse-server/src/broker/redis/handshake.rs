//! The first exchange with a Redis, and its two connections for commands.
//!
//! Publishes have a connection of their own. On a common one, they would wait behind every lookup,
//! and a large page would delay their replies. Both connections are opened and given up together,
//! so all commands of an era go to the same Redis.

use std::time::Duration;

use redis::{ErrorKind, RedisResult, Value};

use super::{
    dial::{CommandConnection, Dialer},
    errors::Unusable,
    format::FormatCheck,
    info::{ReplicationId, read_section, unsupported_version},
    names::Names,
    replicated::{self, ReplicatedWrites},
    target::ServerAddress,
};
use crate::supervised::supervised_task;

/// The connections to one Redis.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    /// For publishes, and for all other commands that are few and small.
    pub(super) writes: CommandConnection,
    /// For lookups and pages of history.
    pub(super) reads: CommandConnection,
    /// For publishes, if replicas must confirm them.
    pub(super) replicated: Option<ReplicatedWrites>,
}

/// Connections, and the address and the replication id of their Redis.
pub(super) struct Connected {
    pub(super) address: ServerAddress,
    pub(super) connections: Connections,
    pub(super) replication_id: ReplicationId,
}

pub(super) enum Handshake {
    Connected(Connected),
    Unusable(Unusable),
}

/// Connects to `address`, and asks Redis for what must be known before the first command. Each
/// command waits up to `limit` for its reply.
///
/// A primary that sentinels or a cluster name must have that role.
pub(super) async fn handshake(
    dialer: &Dialer,
    format: &FormatCheck,
    address: ServerAddress,
    limit: Duration,
) -> RedisResult<Handshake> {
    let mut writes = dialer.open_commands(&address, limit).await?;
    // A Redis that is still loading its file replies with an error.
    ping(&mut writes).await?;
    if dialer.needs_role() {
        check_role(&mut writes).await?;
    }
    let server_info = read_section(&mut writes, "server").await?;
    if let Some(version) = unsupported_version(&server_info) {
        return Ok(Handshake::Unusable(Unusable::TooOld(version.to_owned())));
    }
    if let Some(why) = format.run(&mut writes).await? {
        return Ok(Handshake::Unusable(why));
    }
    let replication_id = ReplicationId::read(&mut writes).await?;
    let reads = open_second(dialer, &address, limit, &replication_id).await?;
    let replicated = match dialer.replicas_to_wait_for() {
        0 => None,
        replicas => {
            let connection = open_second(dialer, &address, limit, &replication_id).await?;
            let names = format.names.clone();
            Some(start_replicated(connection, replicas, (limit, names)))
        }
    };
    Ok(Handshake::Connected(Connected {
        address,
        connections: Connections {
            writes,
            reads,
            replicated,
        },
        replication_id,
    }))
}

/// Opens a further connection, which must lead to the same Redis as the first one.
async fn open_second(
    dialer: &Dialer,
    address: &ServerAddress,
    limit: Duration,
    replication_id: &ReplicationId,
) -> RedisResult<CommandConnection> {
    let mut connection = dialer.open_commands(address, limit).await?;
    // The address may have begun to lead to another Redis between the two connections.
    if ReplicationId::read(&mut connection).await? != *replication_id {
        return Err((ErrorKind::Io, "two connections lead to different Redis").into());
    }
    Ok(connection)
}

/// Starts the task that sends appends on `connection`. It ends with the last clone of the handle.
fn start_replicated(
    connection: CommandConnection,
    replicas: u32,
    (limit, names): (Duration, Names),
) -> ReplicatedWrites {
    let (writes, jobs) = ReplicatedWrites::new();
    let task = replicated::run(jobs, connection, replicas, (limit, names));
    tokio::spawn(supervised_task(
        "the connection that waits for replicas",
        task,
    ));
    writes
}

/// Checks that Redis replies.
pub(super) async fn ping(connection: &mut CommandConnection) -> RedisResult<()> {
    let _: Value = redis::cmd("PING").query_async(connection).await?;
    Ok(())
}

/// Checks that Redis is a primary.
pub(super) async fn check_role(connection: &mut CommandConnection) -> RedisResult<()> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    if matches!(role.first(), Some(Value::BulkString(role)) if role == b"master") {
        return Ok(());
    }
    Err((ErrorKind::Io, "it is not a primary").into())
}
