//! Sends commands once, under a deadline, and judges what comes back.

use redis::{RedisResult, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    dial::CommandConnection,
    errors::{CommandError, is_unknown_script_reply},
    health::Health,
    unit::Unit,
};

/// Sends a unit once. A Redis that does not know its script gets the script, and the unit again.
pub(super) async fn send_unit(
    health: &Health,
    deadline: Instant,
    unit: &Unit<'_>,
    connection: &mut CommandConnection,
) -> Result<Vec<Value>, CommandError> {
    let replies = unit.commands.query_async(connection);
    let replies: Vec<Value> = send_before(health, deadline, replies).await?;
    let Some(script) = unit
        .script
        .filter(|_| replies.iter().any(is_unknown_script_reply))
    else {
        return Ok(replies);
    };
    let loaded = script.load_async(connection);
    let _: String = send_before(health, deadline, loaded).await?;
    let replies = unit.commands.query_async(connection);
    send_before(health, deadline, replies).await
}

/// Sends commands by polling `reply`, unless `deadline` has passed, and waits for the reply until
/// then.
pub(super) async fn send_before<T>(
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
    use crate::broker::BrokerError;

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
