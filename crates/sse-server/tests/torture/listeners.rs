//! The listeners: processes with a record, each behind its own links, and what happens to them
//! during a run.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{ChildStdout, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use rand::{RngExt as _, rngs::StdRng};
use sse_proto::{Cursor, EventId, record::Received};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::{Follows, Joined},
    options::Plant,
    plan::{self, Behaviour, ListenerPlan, between_ms},
    processes::{Output, Process, until},
    proxy::{Control, Link},
    records,
};

const STOP_WITHIN: Duration = Duration::from_secs(20);
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// Bytes per second that a slow listener reads.
const SLOW_BYTES_PER_SECOND: u64 = 12_000;
/// Cuts in a row before a pause. A listener that is cut repeatedly waits longer each time. A
/// connection that lasts for five seconds resets the delay.
const CUTS_IN_A_ROW: u32 = 4;
const QUIET_MS: (u64, u64) = (5_100, 6_500);
/// Number of cuts of a listener before its first event.
const CUTS_BEFORE_FIRST: u32 = 3;

/// A listener, across all of its processes.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) plan: ListenerPlan,
    links: Vec<Link>,
    process: Option<Process>,
    records: Vec<PathBuf>,
    files: PathBuf,
    /// Set when the reader of the listener's output may read at full speed.
    reads_fast: Arc<AtomicBool>,
    cuts_in_a_row: u32,
}

impl Listener {
    /// Creates a listener that is not started yet.
    pub(crate) async fn new(
        number: usize,
        plan: &ListenerPlan,
        node_ports: &[u16],
        directory: &Path,
        plant: Option<Plant>,
    ) -> anyhow::Result<Self> {
        let mut links = Vec::new();
        for node in &plan.nodes {
            let link = Link::open(node_ports[*node], plant).await?;
            if plan.behaviour == Behaviour::Slow {
                link.control.slow_link.limit(SLOW_BYTES_PER_SECOND);
            }
            links.push(link);
        }
        let kinds = if plan.kinds.is_empty() {
            String::new()
        } else {
            format!(", only {}", plan.kinds.join(" and "))
        };
        Ok(Self {
            name: format!(
                "listener {number} ({:?}, {}{kinds})",
                plan.behaviour,
                plan.channels.join(" and ")
            ),
            plan: plan.clone(),
            links,
            process: None,
            records: Vec::new(),
            files: directory.join(format!("listener-{number}")),
            reads_fast: Arc::default(),
            cuts_in_a_row: 0,
        })
    }

    /// Starts the listener's first or next process.
    fn start(&mut self) -> anyhow::Result<()> {
        let record = self
            .files
            .with_extension(format!("{}.received", self.records.len()));
        let mut command = Command::new(crate::programs::listener());
        for link in &self.links {
            command.args(["--url", &link.url()]);
        }
        for channel in &self.plan.channels {
            command.args(["--channel", channel]);
        }
        for kind in &self.plan.kinds {
            command.args(["--event", kind]);
        }
        command
            .arg("--record")
            .arg(&record)
            .args(["--idle-timeout", "5s"]);
        if self.plan.behaviour == Behaviour::Restarted {
            command
                .arg("--state")
                .arg(self.files.with_extension("state"));
        }
        let slow_output = self.plan.behaviour == Behaviour::SlowOutput;
        let output = if slow_output {
            Output::Pipe
        } else {
            Output::Nowhere
        };
        let mut process = Process::start(
            &self.name,
            command,
            &self.files.with_extension("log"),
            &output,
        )?;
        if let Some(stdout) = process.stdout() {
            let reads_fast = self.reads_fast.clone();
            std::thread::spawn(move || read_slowly(stdout, &reads_fast));
        }
        self.process = Some(process);
        self.records.push(record);
        Ok(())
    }

    /// Starts the listener and waits until it knows its position. A late listener is not started
    /// yet.
    pub(crate) async fn join(&mut self) -> anyhow::Result<()> {
        match self.plan.behaviour {
            Behaviour::Late => return Ok(()),
            Behaviour::CutFirst => self
                .controls()
                .for_each(|control| control.cut_after_first_id(CUTS_BEFORE_FIRST)),
            _ => {}
        }
        self.start()?;
        self.opened().await?;
        if self.plan.behaviour == Behaviour::CutFirst {
            let cuts = u64::from(CUTS_BEFORE_FIRST);
            let cut = async || {
                (self.cut_count() >= cuts)
                    .then(|| self.controls().for_each(|control| control.close(true)))
            };
            until(JOIN_WITHIN, cut)
                .await
                .with_context(|| format!("{} was not cut", self.name))?;
            // Cut the connection opened in the meantime as well, so that the listener misses
            // events.
            self.controls().for_each(Control::cut);
        }
        Ok(())
    }

    async fn opened(&self) -> anyhow::Result<String> {
        let first_id = async || self.controls().find_map(Control::first_id);
        until(JOIN_WITHIN, first_id)
            .await
            .with_context(|| format!("{} has not joined", self.name))
    }

    /// Runs the listener's behaviour until `stop` is cancelled, and then removes all obstacles so
    /// that it can catch up.
    pub(crate) async fn live(mut self, seed: u64, stop: CancellationToken) -> anyhow::Result<Self> {
        let mut chance = plan::chance(seed, 3);
        // The delay is short enough for even a short run.
        if self.plan.behaviour == Behaviour::Late
            && pause(&mut chance, 2_000, 6_000, &stop).await.is_continue()
        {
            self.start()?;
            self.opened().await?;
        }
        while self.turn(&mut chance, &stop).await?.is_continue() {}
        self.reads_fast.store(true, Relaxed);
        for control in self.controls() {
            control.slow_link.limit(0);
            control.close(false);
        }
        Ok(self)
    }

    /// Runs one round of the listener's behaviour.
    async fn turn(
        &mut self,
        chance: &mut StdRng,
        stop: &CancellationToken,
    ) -> anyhow::Result<Flow> {
        Ok(match self.plan.behaviour {
            Behaviour::Steady | Behaviour::Late => pause(chance, 60_000, 60_000, stop).await,
            Behaviour::SlowOutput => {
                self.reads_fast.store(false, Relaxed);
                if pause(chance, 5_000, 10_000, stop).await.is_break() {
                    return Ok(Flow::Break(()));
                }
                self.reads_fast.store(true, Relaxed);
                pause(chance, 1_000, 3_000, stop).await
            }
            Behaviour::Slow => {
                self.controls()
                    .for_each(|control| control.slow_link.limit(SLOW_BYTES_PER_SECOND));
                if pause(chance, 3_000, 8_000, stop).await.is_break() {
                    return Ok(Flow::Break(()));
                }
                self.controls()
                    .for_each(|control| control.slow_link.limit(0));
                pause(chance, 1_000, 3_000, stop).await
            }
            Behaviour::Reconnecting | Behaviour::Hopping => {
                let before = self.connection_count();
                self.controls().for_each(Control::cut);
                if self.reconnected(before, stop).await.is_break() {
                    return Ok(Flow::Break(()));
                }
                self.cuts_in_a_row = (self.cuts_in_a_row + 1) % CUTS_IN_A_ROW;
                let (from, to) = if self.cuts_in_a_row == 0 {
                    QUIET_MS
                } else {
                    (200, 1_500)
                };
                pause(chance, from, to, stop).await
            }
            Behaviour::CutFirst => {
                // Disconnect the listener now, and cut it again when it reconnects.
                self.controls().for_each(|control| {
                    control.close(true);
                    control.cut();
                });
                let back = pause(chance, 300, 1_000, stop).await;
                let (before, cuts) = (
                    self.connection_count(),
                    chance.random_range(1..CUTS_BEFORE_FIRST),
                );
                self.controls().for_each(|control| {
                    control.cut_after_first_id(cuts);
                    control.close(false);
                });
                if back.is_break()
                    || self
                        .reconnected(before + u64::from(cuts), stop)
                        .await
                        .is_break()
                {
                    return Ok(Flow::Break(()));
                }
                let (from, to) = QUIET_MS;
                pause(chance, from, to, stop).await
            }
            Behaviour::Restarted => {
                let paused = pause(chance, 1_000, 4_000, stop).await;
                if paused.is_continue() {
                    self.stop().await?;
                    let paused = pause(chance, 0, 1_500, stop).await;
                    self.start()?;
                    return Ok(paused);
                }
                paused
            }
        })
    }

    fn controls(&self) -> impl Iterator<Item = &Control> {
        self.links.iter().map(|link| &*link.control)
    }

    /// Returns handles on the listener's links, for injecting faults.
    pub(crate) fn shared_controls(&self) -> Vec<(usize, Arc<Control>)> {
        self.plan
            .nodes
            .iter()
            .copied()
            .zip(self.links.iter().map(|link| link.control.clone()))
            .collect()
    }

    /// Waits until the listener has reconnected, which takes longer after each cut.
    async fn reconnected(&self, connections_before: u64, stop: &CancellationToken) -> Flow {
        let back = async || {
            (stop.is_cancelled() || self.connection_count() > connections_before).then_some(())
        };
        let _ = until(JOIN_WITHIN, back).await;
        if stop.is_cancelled() {
            Flow::Break(())
        } else {
            Flow::Continue(())
        }
    }

    fn connection_count(&self) -> u64 {
        self.controls()
            .map(|control| control.counts.connections.load(Relaxed))
            .sum()
    }

    fn cut_count(&self) -> u64 {
        self.controls().map(Control::cut_count).sum()
    }

    /// Returns true if the listener has received everything up to these ids, one per channel.
    pub(crate) fn has_reached(&self, ends: &[(sse_proto::Channel, EventId)]) -> bool {
        // A process that has just been started may not have received anything.
        let last = self
            .records
            .iter()
            .rev()
            .find_map(|record| records::last_position(record));
        let reached = |cursor: &Cursor, channel, end| {
            cursor
                .position_in(channel)
                .is_some_and(|at| at.floor() >= end)
        };
        last.is_some_and(|cursor| {
            ends.iter()
                .all(|(channel, end)| reached(&cursor, channel, *end))
        })
    }

    /// Stops the listener's process.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        if let Some(status) = process.ended() {
            bail!(
                "{} ended by itself ({status}); it said why in {}",
                self.name,
                self.files.with_extension("log").display()
            );
        }
        let status = process.stop(STOP_WITHIN).await?;
        if !status.success() {
            bail!("{} ended with {status} after SIGTERM", self.name);
        }
        Ok(())
    }

    /// Returns what the listener follows, or `None` if it was never started.
    pub(crate) fn follows(&self) -> Option<Follows> {
        let joined = match self.plan.behaviour {
            Behaviour::Late => {
                Joined::After(self.controls().find_map(Control::first_id)?.parse().ok()?)
            }
            _ => Joined::BeforeAll,
        };
        Some(Follows {
            name: self.name.clone(),
            channels: self
                .plan
                .channels
                .iter()
                .map(|name| name.parse().expect("a channel"))
                .collect(),
            kinds: self.plan.kinds.iter().map(ToString::to_string).collect(),
            joined,
        })
    }

    /// Returns everything that the listener received, in order.
    pub(crate) fn received(&self) -> anyhow::Result<Vec<Received>> {
        let mut all = Vec::new();
        for record in &self.records {
            for line in records::lines(record)? {
                all.push(line?);
            }
        }
        Ok(all)
    }

    /// Returns a line for the report about what happened to the listener.
    pub(crate) fn summary(&self) -> String {
        let sum = |count: fn(&Control) -> u64| self.controls().map(count).sum::<u64>();
        let connections = self.connection_count();
        let in_a_frame = sum(|control| control.counts.cut_in_a_frame.load(Relaxed));
        let after_first_id = sum(|control| control.counts.cut_after_first_id.load(Relaxed));
        let processes = self.records.len();
        format!(
            "{}: {connections} connections, cut in a frame {in_a_frame}, after the first id {after_first_id}, \
             processes {processes}",
            self.name
        )
    }

    /// Returns a message if the listener's behaviour never had an effect.
    pub(crate) fn idle_behaviour(&self) -> Option<String> {
        let effect = match self.plan.behaviour {
            Behaviour::Steady | Behaviour::Slow | Behaviour::SlowOutput => true,
            Behaviour::Reconnecting | Behaviour::Hopping => self
                .controls()
                .any(|control| control.counts.cut_in_a_frame.load(Relaxed) > 0),
            Behaviour::CutFirst => self
                .controls()
                .any(|control| control.counts.cut_after_first_id.load(Relaxed) > 0),
            Behaviour::Restarted => self.records.len() > 1,
            Behaviour::Late => !self.records.is_empty(),
        };
        (!effect).then(|| format!("{} never did what it is there for", self.name))
    }
}

/// Whether to continue.
type Flow = std::ops::ControlFlow<()>;

/// Waits for a random time; returns `Break` if `stop` is cancelled.
async fn pause(chance: &mut StdRng, from_ms: u64, to_ms: u64, stop: &CancellationToken) -> Flow {
    select! {
        () = stop.cancelled() => Flow::Break(()),
        () = sleep(between_ms(chance, from_ms, to_ms)) => Flow::Continue(()),
    }
}

/// Reads an output slowly until `reads_fast` is set.
fn read_slowly(mut stdout: ChildStdout, reads_fast: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let fast = reads_fast.load(Relaxed);
        let room = if fast { buffer.len() } else { 512 };
        match stdout.read(&mut buffer[..room]) {
            Ok(0) | Err(_) => return,
            Ok(_) if fast => {}
            Ok(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
