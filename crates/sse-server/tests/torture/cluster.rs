//! The cluster under test: one node with the embedded log, or three nodes on one Redis, on sentinels or
//! on a Redis Cluster.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::{
    clock::Clock,
    disk::Disk,
    failover::Failover,
    options::BrokerName,
    processes::{Output, Process, free_port, until},
    redis_cluster::RedisCluster,
    sentinel::Sentinels,
};

/// Longer than a start takes, including a repair of the log.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Longer than a drain and an end take.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Counts the streams that a drain has ended.
const DRAINED: &str = "sse_streams_closed_total{reason=\"drain\"} ";

/// The servers, and the Redis, disk and clock that they use.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Dropped in this order, so that the disk is unmounted after its last user has ended.
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Option<Server>,
    pub(crate) sentinels: Option<Sentinels>,
    pub(crate) shards: Option<RedisCluster>,
    pub(crate) disk: Option<Disk>,
    pub(crate) clock: Option<Clock>,
    directory: PathBuf,
    /// Number of Redis primaries so far.
    primaries: usize,
    /// Client without kept-alive connections: a killed node would leave them half-open.
    http: reqwest::Client,
}

/// A program that listens on its own port and can be restarted.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    pub(crate) port: u16,
    program: PathBuf,
    arguments: Vec<String>,
    by_the_clock: bool,
    directory: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

/// An `sse-server`.
pub(crate) type Node = Server;

impl Server {
    pub(crate) fn start(&mut self, clock: Option<&Clock>) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if let Some(clock) = clock.filter(|_| self.by_the_clock) {
            clock.preload(&mut command);
        }
        self.process = Some(Process::start(
            &self.name,
            command,
            &self.log,
            &Output::Nowhere,
        )?);
        Ok(())
    }

    /// Kills the process, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Sends SIGTERM to a node, and waits until it has drained and ended. Returns how many streams
    /// the drain has ended, as far as the node still reported it.
    pub(crate) async fn drain(&mut self, http: &reqwest::Client) -> anyhow::Result<u64> {
        let mut process = self.process.take().context("the node is not running")?;
        process.signal(Signal::TERM);
        let mut drained = 0;
        let end = async || {
            if let Some(count) = metric(http, self.port, DRAINED).await {
                drained = count;
            }
            process.ended()
        };
        let status = until(STOP_WITHIN, end).await;
        let status = status.with_context(|| format!("{} does not end after SIGTERM", self.name))?;
        anyhow::ensure!(
            status.success(),
            "{} ended with {status} after SIGTERM; its log is {}",
            self.name,
            self.log.display()
        );
        Ok(drained)
    }

    /// Returns the id of the process, if it is running.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Returns the directory of the program's files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces the process with the running process of `other`.
    pub(crate) fn take_process_of(&mut self, mut other: Self) {
        self.process = other.process.take();
    }

    /// If the process ended by itself, returns a message with the exit status.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.ended()?;
        self.process = None;
        Some(format!(
            "{} ended by itself ({status}); its log is {}",
            self.name,
            self.log.display()
        ))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Adds to the arguments of every start.
    pub(crate) fn add_arguments(&mut self, more: &[&str]) {
        let more = more.iter().map(|argument| (*argument).to_owned());
        self.arguments.extend(more);
    }

    /// Lets a Redis start as a replica of the one at `port`.
    pub(crate) fn replicate(&mut self, port: u16) {
        let primary = format!("127.0.0.1 {port}");
        self.arguments.extend(["--replicaof".to_owned(), primary]);
    }

    /// Lets a Redis start as a primary.
    pub(crate) fn replicate_nothing(&mut self) {
        if let Some(start) = self.arguments.iter().position(|it| it == "--replicaof") {
            self.arguments.truncate(start);
        }
    }
}

impl Cluster {
    /// Starts all servers, with their files in this directory. With a `small_disk` the log has a
    /// disk of its own, which the test can fill, and which a long run fills by itself.
    pub(crate) async fn start(
        broker: BrokerName,
        directory: &Path,
        small_disk: bool,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(5));
        let mut cluster = Self {
            nodes: Vec::new(),
            redis: None,
            sentinels: None,
            shards: None,
            disk: None,
            clock: Clock::find(directory)?,
            directory: directory.to_owned(),
            primaries: 1,
            http: http.build().context("cannot set up HTTP")?,
        };
        let broker_arguments = match broker {
            BrokerName::Embedded => {
                if small_disk {
                    cluster.disk = Disk::mount(&directory.join("disk"))?;
                }
                let data = directory.join("disk").join("data");
                // With a small reserve, a full disk is found both by the check before a write and
                // in the middle of a write.
                vec![
                    "--data-dir".to_owned(),
                    data.display().to_string(),
                    "--disk-reserve=1MiB".to_owned(),
                ]
            }
            BrokerName::Redis => {
                let redis = redis_server(free_port()?, &directory.join("redis-1"))?;
                let url = format!("redis://127.0.0.1:{}", redis.port);
                cluster.redis = Some(redis);
                vec![
                    "--redis-url".to_owned(),
                    url,
                    "--redis-timeout=1s".to_owned(),
                    format!("--flask-sse={}", crate::flask_leader::CHANNEL),
                ]
            }
            BrokerName::Sentinel => {
                let sentinels = Sentinels::start(directory).await?;
                let url = sentinels.url();
                cluster.sentinels = Some(sentinels);
                // The clocks of the servers would have to be stepped together.
                cluster.clock = None;
                vec![
                    "--redis-url".to_owned(),
                    url,
                    "--redis-timeout=1s".to_owned(),
                ]
            }
            BrokerName::Cluster => {
                let redis = RedisCluster::start(directory).await?;
                let url = redis.url();
                cluster.shards = Some(redis);
                // The clocks of the servers would have to be stepped together.
                cluster.clock = None;
                vec![
                    "--redis-url".to_owned(),
                    url,
                    "--redis-timeout=1s".to_owned(),
                ]
            }
        };
        let count = if broker == BrokerName::Embedded { 1 } else { 3 };
        for number in 0..count {
            cluster
                .nodes
                .push(node(number, broker, &broker_arguments, directory)?);
        }
        let by_the_clock = cluster
            .redis
            .iter()
            .chain(&cluster.nodes)
            .find(|server| server.by_the_clock);
        if let (Some(clock), Some(server)) = (&cluster.clock, by_the_clock)
            && !clock
                .suits(&server.program, &directory.join("clock.log"))
                .await?
        {
            cluster.clock = None;
        }
        cluster.revive().await?;
        Ok(cluster)
    }

    /// Starts the servers that are not running and waits until all are ready. Returns a message per
    /// server that had ended by itself.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        let clock = self.clock.as_ref();
        if let Some(redis) = &mut self.redis {
            ended.extend(redis.ended());
            if !redis.is_running() {
                redis.start(clock)?;
            }
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port));
            let listens = async || TcpStream::connect(address).await.ok();
            until(START_WITHIN, listens)
                .await
                .context("Redis does not start")?;
        }
        if let Some(sentinels) = &mut self.sentinels {
            ended.extend(sentinels.revive().await?);
        }
        if let Some(redis) = &mut self.shards {
            ended.extend(redis.revive().await?);
        }
        for node in &mut self.nodes {
            ended.extend(node.ended());
            if !node.is_running() {
                node.start(clock)?;
            }
            let url = format!("http://127.0.0.1:{}/health/ready", node.port);
            let ready = async || {
                let response = self.http.get(&url).send().await.ok()?;
                response.status().is_success().then_some(())
            };
            until(START_WITHIN, ready)
                .await
                .with_context(|| format!("{} is not ready after {START_WITHIN:?}", node.name))?;
        }
        Ok(ended)
    }

    /// Starts a failover of Redis to a replica.
    pub(crate) async fn start_failover(&mut self) -> anyhow::Result<Failover> {
        self.primaries += 1;
        let directory = self.directory.join(format!("redis-{}", self.primaries));
        let primary = self.redis.as_ref().context("no Redis to fail over from")?;
        Failover::start(primary, self.clock.as_ref(), &directory).await
    }

    /// Returns true if one stream can follow several channels.
    pub(crate) async fn has_streams_of_several_channels(&self) -> anyhow::Result<bool> {
        let url = format!(
            "http://127.0.0.1:{}/stream?channel=one&channel=two",
            self.nodes[0].port
        );
        Ok(self
            .http
            .get(url)
            .send()
            .await
            .context("cannot ask for a stream")?
            .status()
            .is_success())
    }

    /// Returns how often subscribers have fallen behind the tail of a node since it started, or
    /// `None` if the node does not respond.
    pub(crate) async fn behind_tail(http: &reqwest::Client, port: u16) -> Option<u64> {
        metric(http, port, "sse_subscribers_fell_behind_total ").await
    }

    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// Returns the panic messages in the logs of the nodes.
    pub(crate) fn panics(&self) -> Vec<String> {
        let panic_of = |node: &Node| {
            let log = std::fs::read_to_string(&node.log).ok()?;
            let line = log.lines().find(|line| line.contains("panicked"))?;
            Some(format!("{}: {line}", node.name))
        };
        self.nodes.iter().filter_map(panic_of).collect()
    }

    /// Copies the log from the disk, which is about to be unmounted.
    pub(crate) fn keep_disk(&mut self, directory: &Path) {
        self.nodes.iter_mut().for_each(Server::kill);
        if let Some(disk) = &self.disk {
            let kept = directory.join("data");
            let copied = Command::new("cp")
                .arg("-r")
                .arg(disk.directory.join("data"))
                .arg(&kept)
                .status();
            if !copied.is_ok_and(|status| status.success()) {
                eprintln!("cannot copy the log to {}", kept.display());
            }
        }
    }
}

/// Returns the value of a metric of a node, or `None` if the node does not respond. `name` ends with
/// a space.
async fn metric(http: &reqwest::Client, port: u16, name: &str) -> Option<u64> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let response = http.get(url).send().await.ok()?;
    let text = response.text().await.ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.parse().ok()
}

/// A Redis on this port, with its files in this directory.
pub(crate) fn redis_server(port: u16, directory: &Path) -> anyhow::Result<Server> {
    std::fs::create_dir_all(directory).context("cannot make a directory for Redis")?;
    let port_text = port.to_string();
    let data = directory.display().to_string();
    let arguments = [
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        &data,
    ]
    .into_iter()
    .chain([
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        // Start the copy for a replica without delay.
        "--repl-diskless-sync-delay",
        "0",
    ]);
    Ok(Server {
        name: "redis-server".to_owned(),
        port,
        program: std::env::var_os("REDIS_SERVER")
            .unwrap_or_else(|| "redis-server".into())
            .into(),
        arguments: arguments.map(ToOwned::to_owned).collect(),
        by_the_clock: true,
        directory: directory.to_owned(),
        log: directory.with_extension("log"),
        process: None,
    })
}

/// A sentinel with these settings on this port.
pub(crate) fn sentinel_server(
    port: u16,
    directory: &Path,
    settings: &str,
) -> anyhow::Result<Server> {
    let mut server = redis_server(port, directory)?;
    let config = directory.join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\n{settings}",
        directory.display()
    );
    std::fs::write(&config, text).context("cannot write the settings of a sentinel")?;
    "sentinel".clone_into(&mut server.name);
    server.arguments = vec![config.display().to_string(), "--sentinel".to_owned()];
    Ok(server)
}

fn node(
    number: usize,
    broker: BrokerName,
    broker_arguments: &[String],
    directory: &Path,
) -> anyhow::Result<Node> {
    let port = free_port()?;
    // A short tail, so that slow listeners fall behind it. A short retry and heartbeat, so that
    // much happens. A history that is trimmed continuously after two minutes, but outlasts every
    // absence of a listener.
    let flags = [
        "--tail-events=32",
        "--retry=100ms",
        "--heartbeat=500ms",
        "--history-events=15000",
        "--drain=500ms",
        "--log=info",
    ];
    let mut arguments = vec!["--bind".to_owned(), format!("127.0.0.1:{port}")];
    arguments.extend(flags.map(ToOwned::to_owned));
    arguments.extend_from_slice(broker_arguments);
    Ok(Server {
        name: format!("node {number}"),
        port,
        program: env!("CARGO_BIN_EXE_sse-server").into(),
        arguments,
        // With Redis, only the clock of Redis determines the ids.
        by_the_clock: broker == BrokerName::Embedded,
        directory: directory.to_owned(),
        log: directory.join(format!("node-{number}.log")),
        process: None,
    })
}
