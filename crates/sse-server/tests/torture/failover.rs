//! A failover that loses acknowledged events: a replica that never received the events takes over
//! the address of its primary.
//!
//! The replica is promoted while the primary still works, as an operator would do who can no longer
//! reach the primary. The primary then loses whatever it acknowledges from then on. The test reads
//! exactly these events just before it kills the primary. The checker thus knows which events a gap
//! may excuse, and that the gap may excuse no others.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Context as _;
use redis::{Cmd, FromRedisValue, aio::MultiplexedConnection};
use sse_proto::record::Stamp;
use tokio::time::{Instant, sleep};

use crate::{
    checker::LostEvent,
    clock::Clock,
    cluster::{Server, redis_server},
    plan::CHANNELS,
    processes::{free_port, until},
};

/// Longer than a replica takes to copy everything and to write its file.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);
/// Longer than reading the lost events from the primary takes; the primary is then killed.
const LAST_MOMENT: Duration = Duration::from_secs(20);
/// Publishers that were blocked send their backlog at once. More events than this per `CALM_FOR`
/// mean that the backlog is not sent yet.
const CALM_EVENTS: u64 = 60;
const CALM_FOR: Duration = Duration::from_millis(100);
const CALM_WITHIN: Duration = Duration::from_secs(10);
/// Time limit for losing events.
const LOSE_WITHIN: Duration = Duration::from_secs(5);
/// Polling interval for the number of lost events; short, so that few events arrive in between.
const LOSE_LOOK: Duration = Duration::from_millis(1);
/// Script that counts all entries ever added to these streams.
const ADDED: &str = "
    local added = 0
    for _, stream in ipairs(KEYS) do
        if redis.call('EXISTS', stream) == 1 then
            local info = redis.call('XINFO', 'STREAM', stream)
            for at = 1, #info, 2 do
                if info[at] == 'entries-added' then added = added + info[at + 1] end
            end
        end
    end
    return added";

/// A failover in progress: both servers are primaries.
#[derive(Debug)]
pub(crate) struct Failover {
    promoted: Server,
    old: MultiplexedConnection,
    new: MultiplexedConnection,
}

impl Failover {
    /// Starts a replica with its files in `directory`, lets it catch up, and promotes it.
    pub(crate) async fn start(
        primary: &Server,
        clock: Option<&Clock>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let mut promoted = redis_server(free_port()?, directory)?;
        promoted.start(clock)?;
        let listens = async || connection(promoted.port).await.ok();
        let mut new = until(CATCH_UP_WITHIN, listens)
            .await
            .context("the replica does not start")?;
        let old = connection(primary.port)
            .await
            .context("the primary is not there")?;
        ask::<()>(
            &mut new,
            redis::cmd("REPLICAOF").arg("127.0.0.1").arg(primary.port),
        )
        .await?;
        let caught_up = async || {
            let info: String = ask(&mut new, &redis::cmd("INFO")).await.ok()?;
            // The replica must have all data in its file too, because a later fault may kill it.
            let all = [
                "master_link_status:up",
                "loading:0",
                "aof_rewrite_in_progress:0",
                "aof_rewrite_scheduled:0",
            ];
            all.iter()
                .all(|line| info.lines().any(|other| other == *line))
                .then_some(())
        };
        until(CATCH_UP_WITHIN, caught_up)
            .await
            .context("the replica does not catch up")?;
        let mut failover = Self { promoted, old, new };
        let calm = async || {
            let before = added(&mut failover.old).await.ok()?;
            sleep(CALM_FOR).await;
            let count = added(&mut failover.old).await.ok()? - before;
            (count <= CALM_EVENTS).then_some(())
        };
        // If the load never calms down, more events are lost. The report fails if they are too
        // many.
        let _ = until(CALM_WITHIN, calm).await;
        ask::<()>(
            &mut failover.new,
            redis::cmd("REPLICAOF").arg("NO").arg("ONE"),
        )
        .await?;
        Ok(failover)
    }

    /// Lets the primary store `at_least` events that the promoted replica will never have, and a
    /// few more, and then blocks further writes. Returns the lost events.
    pub(crate) async fn lose(&mut self, at_least: u64) -> anyhow::Result<Vec<LostEvent>> {
        let kept = added(&mut self.new).await?;
        // If nothing is published, nothing is lost, and the report shows a fault without an effect.
        let end = Instant::now() + LOSE_WITHIN;
        while added(&mut self.old).await? < kept + at_least && Instant::now() < end {
            sleep(LOSE_LOOK).await;
        }
        let last_moment = u64::try_from(LAST_MOMENT.as_millis())?;
        ask::<()>(
            &mut self.old,
            redis::cmd("CLIENT")
                .arg("PAUSE")
                .arg(last_moment)
                .arg("WRITE"),
        )
        .await?;
        let mut lost = Vec::new();
        for channel in CHANNELS {
            lost.extend(
                self.lost_of(channel)
                    .await
                    .with_context(|| format!("what {channel} has lost"))?,
            );
        }
        Ok(lost)
    }

    /// Kills the primary, and gives its address and role to the promoted replica.
    pub(crate) async fn finish(mut self, primary: &mut Server) -> anyhow::Result<()> {
        primary.kill();
        ask::<()>(
            &mut self.new,
            redis::cmd("CONFIG")
                .arg("SET")
                .arg("port")
                .arg(primary.port),
        )
        .await?;
        std::fs::remove_dir_all(primary.directory())
            .context("cannot remove the files of the old primary")?;
        // Every later start uses this address.
        *primary = redis_server(primary.port, self.promoted.directory())?;
        primary.take_process_of(self.promoted);
        Ok(())
    }

    /// Returns the events of a channel that only the old primary has.
    async fn lost_of(&mut self, channel: &str) -> anyhow::Result<Vec<LostEvent>> {
        let stream = stream(channel);
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<(String, redis::Value)> = ask(&mut self.new, &newest).await?;
        let from = newest
            .first()
            .map_or_else(|| "-".to_owned(), |(id, _)| format!("({id}"));
        let entries: Vec<(String, Vec<String>)> = ask(
            &mut self.old,
            redis::cmd("XRANGE").arg(&stream).arg(from).arg("+"),
        )
        .await?;
        let event = |(id, fields): (String, Vec<String>)| lost_event(channel, &id, &fields);
        Ok(entries.into_iter().filter_map(event).collect())
    }
}

/// Returns the event of an entry; `None` for a gap record, which has no stamp.
pub(crate) fn lost_event(channel: &str, id: &str, fields: &[String]) -> Option<LostEvent> {
    let stamp: Stamp = serde_json::from_str(fields.get(3)?).ok()?;
    let (publisher, sequence) = (stamp.publisher, stamp.sequence);
    Some(LostEvent {
        channel: channel.parse().ok()?,
        id: id.parse().ok()?,
        publisher,
        sequence,
        is_late: false,
    })
}

pub(crate) fn stream(channel: &str) -> String {
    format!("sse:{{{channel}}}")
}

pub(crate) async fn added(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    ask(
        connection,
        redis::cmd("EVAL")
            .arg(ADDED)
            .arg(CHANNELS.len())
            .arg(&CHANNELS.map(stream)),
    )
    .await
}

pub(crate) async fn connection(port: u16) -> anyhow::Result<MultiplexedConnection> {
    let client = redis::Client::open((Ipv4Addr::LOCALHOST.to_string(), port))?;
    let patient = redis::AsyncConnectionConfig::new().set_connection_timeout(Some(LAST_MOMENT));
    let patient = patient.set_response_timeout(Some(LAST_MOMENT));
    Ok(client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?)
}

pub(crate) async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> anyhow::Result<T> {
    let name = || {
        format!(
            "Redis does not do {}",
            String::from_utf8_lossy(&command.get_packed_command()).escape_debug()
        )
    };
    command.query_async(connection).await.with_context(name)
}
