//! What is tortured: one node with the log inside, or three nodes on one Redis.

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
    failover::FailOver,
    options::BrokerName,
    processes::{Output, Process, free_port, until},
};

/// Longer than a start takes, a repair of the log included.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The servers, and what they stand on.
#[derive(Debug)]
pub(crate) struct Cluster {
    // In this order they end: the disk is unmounted when nobody uses it any more.
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Option<Server>,
    pub(crate) disk: Option<Disk>,
    pub(crate) clock: Option<Clock>,
    directory: PathBuf,
    /// Primaries of Redis that there have been.
    primaries: usize,
    /// The connections for health checks are not kept: a node that was killed would leave them half-open.
    http: reqwest::Client,
}

/// A program that listens on a port of its own, and can be started again.
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

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Goes on with the running program of another one.
    pub(crate) fn take_process_of(&mut self, mut other: Self) {
        self.process = other.process.take();
    }

    /// How it ended by itself, if it did.
    fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.ended()?;
        self.process = None;
        Some(format!(
            "{} ended by itself ({status}); its log is {}",
            self.name,
            self.log.display()
        ))
    }

    fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

impl Cluster {
    /// Starts everything, in this directory.
    pub(crate) async fn start(broker: BrokerName, directory: &Path) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(5));
        let mut cluster = Self {
            nodes: Vec::new(),
            redis: None,
            disk: None,
            clock: Clock::find(directory)?,
            directory: directory.to_owned(),
            primaries: 1,
            http: http.build().context("cannot set up HTTP")?,
        };
        let broker_arguments = match broker {
            BrokerName::Embedded => {
                cluster.disk = Disk::mount(&directory.join("disk"))?;
                let data = directory.join("disk").join("data");
                // A small reserve, so that a full disk is met in the middle of a write as well as by the look before it.
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
                ]
            }
        };
        let count = if broker == BrokerName::Redis { 3 } else { 1 };
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

    /// Starts what does not run, and waits until everything works. Returns what had ended by itself.
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

    /// Begins a fail-over of Redis to a replica.
    pub(crate) async fn start_fail_over(&mut self) -> anyhow::Result<FailOver> {
        self.primaries += 1;
        let directory = self.directory.join(format!("redis-{}", self.primaries));
        let primary = self.redis.as_ref().context("no Redis to fail over from")?;
        FailOver::start(primary, self.clock.as_ref(), &directory).await
    }

    /// Whether one stream can follow several channels.
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

    /// How often subscribers fell behind the tail of a node since it started; none when it does not answer.
    pub(crate) async fn behind_tail(http: &reqwest::Client, port: u16) -> Option<u64> {
        let response = http
            .get(format!("http://127.0.0.1:{port}/metrics"))
            .send()
            .await
            .ok()?;
        let text = response.text().await.ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("sse_subscribers_fell_behind_total "))?
            .parse()
            .ok()
    }

    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// What the servers said that they never should.
    pub(crate) fn panics(&self) -> Vec<String> {
        let said = |node: &Node| {
            let log = std::fs::read_to_string(&node.log).ok()?;
            let line = log.lines().find(|line| line.contains("panicked"))?;
            Some(format!("{}: {line}", node.name))
        };
        self.nodes.iter().filter_map(said).collect()
    }

    /// Keeps what is on the disk, which goes away.
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
        // A replica gets its copy at once.
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

fn node(
    number: usize,
    broker: BrokerName,
    broker_arguments: &[String],
    directory: &Path,
) -> anyhow::Result<Node> {
    let port = free_port()?;
    // A short tail, so that slow listeners fall behind it; a short retry and heartbeat, so that much happens; a history
    // that is trimmed all the time after two minutes, and reaches back further than a listener stays away.
    let flags = [
        "--tail-events=32",
        "--retry=100ms",
        "--heartbeat=500ms",
        "--history-events=15000",
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
        // Over Redis ids come from its clock alone.
        by_the_clock: broker == BrokerName::Embedded,
        directory: directory.to_owned(),
        log: directory.join(format!("node-{number}.log")),
        process: None,
    })
}
