//! A primary with two replicas and three sentinels, and the faults that concern them.
//!
//! Before a primary is killed, its writes are paused and its newest events are read. What the
//! promoted replica lacks of them is lost, and the checker excuses a gap over exactly these events.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use redis::FromRedisValue;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    checker::LostEvent,
    cluster::{Server, redis_server, sentinel_server},
    failover::{added, ask, connection, lost_event, stream},
    plan::{CHANNELS, Fault},
    processes::{free_port, until},
};

const PRIMARY: &str = "torture";
/// Longer than a failover and the copies for both replicas take.
const HEALTHY_WITHIN: Duration = Duration::from_mins(1);
const PROMOTED_WITHIN: Duration = Duration::from_secs(30);
/// Time in which a primary without replicas must store something.
const LOSE_WITHIN: Duration = Duration::from_millis(300);
/// Events that a primary stores while it has no replica.
const LOST_AT_LEAST: u64 = 3;
/// Newest events of a channel that are compared.
const COMPARED: usize = 3_000;

/// The servers.
#[derive(Debug)]
pub(crate) struct Sentinels {
    redis: Vec<Server>,
    sentinels: Vec<Server>,
}

/// What a fault did.
pub(crate) struct Outcome {
    pub(crate) effect: u64,
    pub(crate) lost: Vec<LostEvent>,
}

/// Events of the channels, by channel and id.
type Events = HashMap<(&'static str, String), Vec<String>>;

impl Sentinels {
    /// Starts all servers, with their files in `directory`, and waits until they are connected.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let mut redis = Vec::new();
        for number in 0..3 {
            let mut server =
                redis_server(free_port()?, &directory.join(format!("redis-{number}")))?;
            if number > 0 {
                let primary: &Server = &redis[0];
                server.replicate(primary.port);
            }
            redis.push(server);
        }
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let files = directory.join(format!("sentinel-{number}"));
            let settings = format!(
                "sentinel monitor {PRIMARY} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {PRIMARY} 1000\n\
                 sentinel failover-timeout {PRIMARY} 3000\n\
                 sentinel parallel-syncs {PRIMARY} 2\n",
                redis[0].port
            );
            sentinels.push(sentinel_server(free_port()?, &files, &settings)?);
        }
        let mut all = Self { redis, sentinels };
        all.revive().await?;
        for server in &mut all.redis {
            // A server that comes back is a primary until the sentinels change it.
            server.replicate_nothing();
        }
        Ok(all)
    }

    /// The URL for nodes.
    pub(crate) fn url(&self) -> String {
        let addresses = self.sentinels.iter();
        let addresses: Vec<String> = addresses
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect();
        format!("redis+sentinel://{}/{PRIMARY}", addresses.join(","))
    }

    /// Starts the servers that are not running, and waits until all are connected.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for server in self.redis.iter_mut().chain(&mut self.sentinels) {
            ended.extend(server.ended());
            if !server.is_running() {
                server.start(None)?;
            }
        }
        let healthy = async || self.check().await.ok()?.then_some(());
        until(HEALTHY_WITHIN, healthy)
            .await
            .context("the sentinels and their Redis do not recover")?;
        Ok(ended)
    }

    /// Whether all sentinels name one primary that both others replicate.
    async fn check(&self) -> anyhow::Result<bool> {
        let mut named = HashSet::new();
        for sentinel in &self.sentinels {
            let mut debug = redis::cmd("SENTINEL");
            debug.arg("DEBUG").arg("publish-period").arg(200);
            ask_at::<()>(sentinel.port, debug.arg("info-period").arg(500)).await?;
            let mut master = redis::cmd("SENTINEL");
            master.arg("MASTER").arg(PRIMARY);
            let fields: HashMap<String, String> = ask_at(sentinel.port, &master).await?;
            let has = |field: &str, value: &str| fields.get(field).is_some_and(|it| it == value);
            if !has("flags", "master")
                || !has("num-slaves", "2")
                || !has("num-other-sentinels", "2")
            {
                return Ok(false);
            }
            named.extend(fields.get("port").and_then(|port| port.parse::<u16>().ok()));
        }
        let [primary] = Vec::from_iter(named).try_into().unwrap_or([0]);
        if primary == 0 {
            return Ok(false);
        }
        // A replica that is not online yet has received nothing.
        let info: String = ask_at(primary, redis::cmd("INFO").arg("replication")).await?;
        Ok(info.matches("state=online").count() == 2)
    }

    /// Injects a fault, and waits until another Redis is the primary.
    pub(crate) async fn strike(&mut self, fault: Fault, number: usize) -> anyhow::Result<Outcome> {
        let old = self.primary().await?;
        let (before, began) = (self.redis[old].port, Instant::now());
        let events = match fault {
            Fault::PlannedFailover => {
                let mut command = redis::cmd("SENTINEL");
                command.arg("FAILOVER").arg(PRIMARY);
                ask_at::<()>(self.sentinels[number % 3].port, &command).await?;
                Events::new()
            }
            Fault::KillPrimary => {
                // The other two decide.
                self.sentinels[number % 3].signal(Signal::STOP);
                let events = self.pause_and_read(old).await?;
                self.redis[old].kill();
                events
            }
            Fault::StopPrimary => {
                self.redis[old].signal(Signal::STOP);
                Events::new()
            }
            _ => {
                let events = self.store_without_replicas(old).await?;
                self.redis[old].kill();
                self.signal_replicas(old, Signal::CONT);
                events
            }
        };
        let new = self.wait_for_another(before, number).await;
        self.sentinels[number % 3].signal(Signal::CONT);
        let new = new.context("no other Redis becomes the primary")?;
        let elapsed = u64::try_from(began.elapsed().as_millis())?;
        let events = match fault {
            Fault::StopPrimary => {
                self.redis[old].signal(Signal::CONT);
                read_events(before).await?
            }
            _ => events,
        };
        let mut lost = missing_in(events, new).await?;
        for event in &mut lost {
            event.is_late = fault == Fault::StopPrimary;
        }
        Ok(Outcome {
            effect: elapsed,
            lost,
        })
    }

    /// The number of the server that is the primary.
    async fn primary(&self) -> anyhow::Result<usize> {
        let port = primary_of(self.sentinels[0].port).await?;
        let mut servers = self.redis.iter();
        let number = servers.position(|server| server.port == port);
        number.context("the primary is not one of ours")
    }

    /// Pauses the writes of a primary, and returns its newest events.
    async fn pause_and_read(&self, number: usize) -> anyhow::Result<Events> {
        let port = self.redis[number].port;
        let mut pause = redis::cmd("CLIENT");
        ask_at::<()>(port, pause.arg("PAUSE").arg(20_000).arg("WRITE")).await?;
        read_events(port).await
    }

    /// Lets a primary acknowledge a few events that no replica gets. Both replicas are stopped
    /// then.
    async fn store_without_replicas(&self, number: usize) -> anyhow::Result<Events> {
        let mut primary = connection(self.redis[number].port).await?;
        self.signal_replicas(number, Signal::STOP);
        // What they have received already, they keep.
        let mut kill = redis::cmd("CLIENT");
        ask::<()>(&mut primary, kill.arg("KILL").arg("TYPE").arg("replica")).await?;
        let before = added(&mut primary).await?;
        let end = Instant::now() + LOSE_WITHIN;
        while added(&mut primary).await? < before + LOST_AT_LEAST && Instant::now() < end {
            sleep(Duration::from_millis(1)).await;
        }
        self.pause_and_read(number).await
    }

    fn signal_replicas(&self, primary: usize, signal: Signal) {
        let servers = self.redis.iter().enumerate();
        let replicas = servers.filter(|(number, _)| *number != primary);
        replicas.for_each(|(_, server)| server.signal(signal));
    }

    /// Waits until a sentinel other than `stopped` names another primary than that at `port`.
    async fn wait_for_another(&self, port: u16, stopped: usize) -> Option<u16> {
        let sentinel = &self.sentinels[(stopped + 1) % 3];
        let another = async || {
            let named = primary_of(sentinel.port).await.ok()?;
            (named != port).then_some(named)
        };
        until(PROMOTED_WITHIN, another).await
    }
}

async fn primary_of(sentinel: u16) -> anyhow::Result<u16> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(PRIMARY);
    let (_, port): (String, u16) = ask_at(sentinel, &command).await?;
    Ok(port)
}

async fn ask_at<T: FromRedisValue>(port: u16, command: &redis::Cmd) -> anyhow::Result<T> {
    ask(&mut connection(port).await?, command).await
}

/// The newest events of the Redis at `port`.
async fn read_events(port: u16) -> anyhow::Result<Events> {
    let mut events = Events::new();
    for channel in CHANNELS {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(stream(channel)).arg("+").arg("-");
        let entries: Vec<(String, Vec<String>)> =
            ask_at(port, range.arg("COUNT").arg(COMPARED)).await?;
        events.extend(
            entries
                .into_iter()
                .map(|(id, fields)| ((channel, id), fields)),
        );
    }
    Ok(events)
}

/// Those of `events` that the Redis at `port` does not have.
async fn missing_in(events: Events, port: u16) -> anyhow::Result<Vec<LostEvent>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    // The newest events that were read are among twice as many now.
    let mut kept = HashSet::new();
    for channel in CHANNELS {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(stream(channel)).arg("+").arg("-");
        let entries: Vec<(String, Vec<String>)> =
            ask_at(port, range.arg("COUNT").arg(2 * COMPARED)).await?;
        kept.extend(entries.into_iter().map(|(id, _)| (channel, id)));
    }
    let missing = events
        .into_iter()
        .filter(|(event, _)| !kept.contains(event));
    Ok(missing
        .filter_map(|((channel, id), fields)| lost_event(channel, &id, &fields))
        .collect())
}
