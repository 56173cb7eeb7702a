//! A run under attack: honest load, and beside it all attacks of `tests/attacks` from one address.
//!
//! No fault is injected. The honest clients are 1000 streams of `listener bench`, and two publishers
//! of 200 events per second together. One of them publishes to the channel of the streams, at a rate
//! that a development build can deliver. No event may be lost, no more than one publish per minute
//! may be rejected, and the server's memory must not grow from the first half of the run to the
//! second. The report compares the honest clients with a short run of them before the attacks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    attacker::Attacker,
    checker::{Breach, Breaches},
    cluster::Cluster,
    options::BrokerName,
    processes::{Output, Process, until},
    programs, waves,
};

const STREAMS: u32 = 1000;
/// Channels of the publishers, with their events per second. The streams follow the first one.
const PUBLISHERS: [(&str, u32); 2] = [(CHANNEL, 10), ("unread", 190)];
const CHANNEL: &str = "honest";
/// How long the honest clients run before the attacks.
const CALM: Duration = Duration::from_secs(20);
const OPEN_WITHIN: Duration = Duration::from_mins(1);
const END_WITHIN: Duration = Duration::from_secs(90);
/// Time for the honest streams to receive the last events.
const SETTLE: Duration = Duration::from_secs(30);
/// How long the connections of a wave stay open.
const HELD: Duration = Duration::from_secs(3);
/// Growth of the server's memory that is no sign of a leak.
const GROWTH_BYTES: u64 = 64 << 20;

/// The attacks, each of which is repeated for the whole run.
#[derive(Debug, Clone, Copy)]
enum Wave {
    Bodies,
    Heads,
    Silence,
    Streams,
    UnreadHistory,
    UnreadStreams,
    Starts,
    Searches,
    Lookups,
    Channels,
    Lists,
    Descriptions,
    Keys,
    Mistakes,
}

impl Wave {
    const ALL: [Self; 14] = [
        Self::Bodies,
        Self::Heads,
        Self::Silence,
        Self::Streams,
        Self::UnreadHistory,
        Self::UnreadStreams,
        Self::Starts,
        Self::Searches,
        Self::Lookups,
        Self::Channels,
        Self::Lists,
        Self::Descriptions,
        Self::Keys,
        Self::Mistakes,
    ];

    /// Sends one wave, and holds its connections for a while.
    async fn send(self, attacker: &Attacker, round: usize) {
        let held = match self {
            Self::Bodies => waves::slow_bodies(attacker, 64).await,
            Self::Heads => waves::unfinished_heads(attacker, 200).await,
            Self::Silence => waves::silent_connections(attacker, 200).await,
            Self::Streams => waves::streams(attacker, 200).await,
            Self::UnreadHistory => waves::unread_history(attacker, "attack", 40).await,
            Self::UnreadStreams => waves::unread_streams(attacker, "attack", 50).await,
            Self::Starts => waves::streams_from_oldest(attacker, "attack", 32, 50).await,
            Self::Searches => waves::fruitless_searches(attacker, CHANNEL, 20).await,
            Self::Lookups => waves::lookups(attacker, round, 50).await,
            Self::Channels => {
                waves::new_channels(attacker, round, 200).await;
                Vec::new()
            }
            Self::Lists => {
                waves::batch_of_channels(attacker, "listed", 1000).await;
                waves::unread_lists(attacker, 40).await
            }
            Self::Descriptions => waves::descriptions(attacker, 30).await,
            Self::Keys => {
                waves::keys(attacker, "attack", round, 5000).await;
                Vec::new()
            }
            Self::Mistakes => {
                waves::logged_mistakes(attacker).await;
                Vec::new()
            }
        };
        sleep(HELD).await;
        drop(held);
    }
}

/// What a run under attack showed.
#[derive(Debug)]
pub(crate) struct AttackReport {
    waves: usize,
    /// Before the attacks.
    calm: HonestResult,
    honest: HonestResult,
    memory: Memory,
    pub(crate) breaches: Breaches,
}

/// What the honest clients saw.
#[derive(Debug, Default)]
struct HonestResult {
    /// Publishes that were rejected, or have an unknown outcome.
    rejected: u64,
    publish_p99_us: u64,
    delivery_p99_us: u64,
}

/// The largest memory in each half of a run, in bytes.
#[derive(Debug, Default)]
struct Memory {
    first: u64,
    second: u64,
}

impl AttackReport {
    /// Returns the text of the report.
    pub(crate) fn text(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let mut lines = vec![
            format!("{} waves of {} attacks", self.waves, Wave::ALL.len()),
            format!(
                "honest publishes: {} rejected, p99 {} us (without attacks {} us)",
                self.honest.rejected, self.honest.publish_p99_us, self.calm.publish_p99_us
            ),
            format!(
                "honest deliveries: p99 {} us (without attacks {} us)",
                self.honest.delivery_p99_us, self.calm.delivery_p99_us
            ),
            format!(
                "memory: at most {} MiB in the first half, {} MiB in the second",
                mib(self.memory.first),
                mib(self.memory.second)
            ),
        ];
        lines.extend(self.breaches.lines());
        lines.join("\n") + "\n"
    }
}

/// Executes a run, with all files in this directory.
pub(crate) async fn run(
    broker: BrokerName,
    duration: Duration,
    directory: &Path,
) -> anyhow::Result<AttackReport> {
    let mut cluster = Cluster::start(broker, directory, false).await?;
    let node = &cluster.nodes[0];
    let (port, pid) = (node.port, node.pid().context("the node has ended")?);
    let mut breaches = Breaches::default();
    let calm = Honest::start(&cluster, port, CALM, &directory.join("calm")).await?;
    let calm = calm.finish(&mut breaches).await?;
    let honest = Honest::start(&cluster, port, duration, directory).await?;
    let attacker = Arc::new(Attacker::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    publish_line_feeds(&attacker).await?;

    let mut attacks = JoinSet::new();
    let end = Instant::now() + duration;
    for wave in Wave::ALL {
        attacks.spawn(repeat(wave, attacker.clone(), end));
    }
    let memory = watch_memory(pid, duration).await;
    let mut waves = 0;
    while let Some(sent) = attacks.join_next().await {
        waves += sent.context("an attacker's task")?;
    }
    let honest = honest.finish(&mut breaches).await?;
    breaches.add_all(Breach::Trouble, cluster.revive().await?);
    breaches.add_all(Breach::Trouble, cluster.panics());
    if honest.rejected > duration.as_secs().div_ceil(60) {
        let what = format!("{} honest publishes were rejected", honest.rejected);
        breaches.add(Breach::Trouble, what);
    }
    if memory.second > memory.first + GROWTH_BYTES {
        let what = "the memory of the server grows".to_owned();
        breaches.add(Breach::Trouble, what);
    }
    Ok(AttackReport {
        waves,
        calm,
        honest,
        memory,
        breaches,
    })
}

/// Repeats an attack until `end`; returns how many waves were sent.
async fn repeat(wave: Wave, attacker: Arc<Attacker>, end: Instant) -> usize {
    let mut round = 0;
    while timeout_at(end, wave.send(&attacker, round)).await.is_ok() {
        round += 1;
    }
    round
}

/// Publishes the events that the attacker will not read: line feeds are largest on the wire.
async fn publish_line_feeds(attacker: &Attacker) -> anyhow::Result<()> {
    for _ in 0..8 {
        let publish = attacker.post("/event/x?channel=attack");
        let publish = publish.header("content-type", "text/plain");
        let publish = publish.body("\n".repeat(100 << 10));
        let response = publish.send().await.context("the attacker's event")?;
        if !response.status().is_success() {
            bail!("the attacker's event: {}", response.status());
        }
    }
    Ok(())
}

/// Measures the memory of a process once per second.
async fn watch_memory(pid: u32, duration: Duration) -> Memory {
    let (start, mut memory) = (Instant::now(), Memory::default());
    while start.elapsed() < duration {
        let half = if start.elapsed() < duration / 2 {
            &mut memory.first
        } else {
            &mut memory.second
        };
        *half = (*half).max(resident_bytes(pid).unwrap_or(0));
        sleep(Duration::from_secs(1)).await;
    }
    memory
}

/// Returns the resident memory of a process; `None` if the system does not report it.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The honest clients.
struct Honest {
    streams: Process,
    streams_report: PathBuf,
    /// With their reports.
    publishers: Vec<(Process, PathBuf)>,
}

impl Honest {
    /// Starts the streams, and the publishers when all streams are open. They end by themselves
    /// after `duration`, the streams some time later.
    async fn start(
        cluster: &Cluster,
        port: u16,
        duration: Duration,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("cannot make a directory")?;
        let streams_report = directory.join("streams.json");
        let seconds = (duration + OPEN_WITHIN).as_secs();
        let mut command = Command::new(programs::listener());
        command
            .args(["bench", "--channel", CHANNEL, "--expect-no-loss"])
            .args(["--url", &format!("http://127.0.0.1:{port}")])
            .args(["--connections", &STREAMS.to_string()])
            .args(["--duration", &format!("{seconds}s")])
            .args(["--settle", &format!("{}s", SETTLE.as_secs())])
            .arg("--report")
            .arg(&streams_report);
        let log = directory.join("streams.log");
        let mut honest = Self {
            streams: Process::start("the honest streams", command, &log, &Output::Nowhere)?,
            streams_report,
            publishers: Vec::new(),
        };
        honest.wait_until_open(&cluster.http(), port).await?;
        honest.publish(port, duration, directory)?;
        Ok(honest)
    }

    async fn wait_until_open(&self, http: &reqwest::Client, port: u16) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let all_open = async || {
            let text = http.get(&url).send().await.ok()?.text().await.ok()?;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("sse_subscribers "))?;
            (line.parse::<f64>().ok()? >= f64::from(STREAMS)).then_some(())
        };
        until(OPEN_WITHIN, all_open)
            .await
            .context("the honest streams are not open")
    }

    /// Starts the publishers.
    fn publish(&mut self, port: u16, duration: Duration, directory: &Path) -> anyhow::Result<()> {
        for (channel, rate) in PUBLISHERS {
            let report = directory.join(format!("publisher-{channel}.json"));
            let mut command = Command::new(programs::generator());
            command
                .args(["--url", &format!("http://127.0.0.1:{port}")])
                .args(["--channel", channel, "--stamp", "--print-status=false"])
                .args(["--progress", "off"])
                .args(["--rate", &rate.to_string()])
                .args(["--duration", &format!("{}s", duration.as_secs())])
                .arg("--report")
                .arg(&report);
            let log = report.with_extension("log");
            let name = format!("the publisher to {channel}");
            let process = Process::start(&name, command, &log, &Output::Nowhere)?;
            self.publishers.push((process, report));
        }
        Ok(())
    }

    /// Waits for the end of the honest clients.
    async fn finish(mut self, breaches: &mut Breaches) -> anyhow::Result<HonestResult> {
        let mut result = HonestResult::default();
        for (publisher, report) in &mut self.publishers {
            // Exit code 1 means that publishes failed, which the report counts.
            until(END_WITHIN, async || publisher.ended())
                .await
                .with_context(|| format!("{} does not end", publisher.name))?;
            let report = read(report)?;
            result.rejected += number(&report["failed"]) + number(&report["unknown"]);
            let p99_us = number(&report["latency_us"]["p99"]);
            result.publish_p99_us = result.publish_p99_us.max(p99_us);
        }
        let status = self.streams.stop(SETTLE + END_WITHIN).await?;
        if !status.success() {
            let what = format!("the honest streams ended with {status}: an event is missing");
            breaches.add(Breach::Lost, what);
        }
        let report = read(&self.streams_report)?;
        result.delivery_p99_us = number(&report["latency"]["p99_us"]);
        Ok(result)
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn read(report: &Path) -> anyhow::Result<Value> {
    let text =
        fs::read_to_string(report).with_context(|| format!("no report in {}", report.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", report.display()))
}
