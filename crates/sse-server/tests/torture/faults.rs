//! Breaks things as planned, one after the other, and measures what each fault did: a fault without an effect proves
//! nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use rand::RngExt as _;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    checker::{Breach, Breaches, LostEvent},
    cluster::Cluster,
    plan::{Fault, FaultPlan, between_ms},
    processes::until,
    proxy::Control,
    publishers::Publisher,
    records::Known,
};

/// After a fault is over, everything works again within this time, or a promise is broken.
const RECOVER_WITHIN: Duration = Duration::from_secs(30);
/// For an effect to show.
const EFFECT_WITHIN: Duration = Duration::from_secs(5);
/// Events that a fail-over loses, and a few more: few enough for the gaps that tell of them to be rare.
const LOST_AT_LEAST: std::ops::Range<u64> = 3..10;
/// Nothing is acknowledged for so long: what was under way when a process was stopped has arrived.
const QUIET: Duration = Duration::from_millis(200);

/// Everything that can be broken.
pub(crate) struct Faults<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) publishers: &'a mut [Publisher],
    /// Of listeners and publishers, with the number of the node that they lead to.
    pub(crate) links: Vec<(usize, Arc<Control>)>,
    pub(crate) plan: FaultPlan,
    pub(crate) effects: BTreeMap<Fault, Effect>,
    pub(crate) breaches: &'a mut Breaches,
    /// Times that a node gave up by itself, where it may.
    pub(crate) gave_up: u64,
    /// What Redis had and lost, by fail-overs.
    pub(crate) lost: Vec<LostEvent>,
}

/// What the faults of one kind did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Effect {
    pub(crate) times: u64,
    /// In the unit of the kind.
    pub(crate) sum: u64,
}

impl Faults<'_> {
    /// Breaks things for this long, and then until each kind has had its turn.
    pub(crate) async fn run(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end || !self.plan.each_had_its_turn() {
            let (pause, fault) = self.plan.next();
            sleep(pause).await;
            let before = self.known();
            let sum = self
                .strike(fault)
                .await
                .with_context(|| format!("at this fault: {}", fault.name()))?;
            let ended = self
                .cluster
                .revive()
                .await
                .with_context(|| format!("after this fault: {}", fault.name()))?;
            // On a full disk a node may give up, and whoever keeps it running starts it again.
            if fault == Fault::FullDisk {
                self.gave_up += ended.len() as u64;
            } else {
                self.breaches.add_all(Breach::Trouble, ended);
            }
            self.recover(fault).await;
            let sum = match fault {
                Fault::KillRedis | Fault::FullDisk => self.known().failed() - before.failed(),
                _ => sum,
            };
            let effect = self.effects.entry(fault).or_default();
            effect.times += 1;
            effect.sum += sum;
        }
        Ok(())
    }

    /// Does one fault, from its beginning to its end. Returns what it did, for kinds that do not show it later.
    async fn strike(&mut self, fault: Fault) -> anyhow::Result<u64> {
        let node = self.plan.chance.random_range(0..self.cluster.nodes.len());
        match fault {
            Fault::KillNode => {
                let before = self.broken(node);
                self.cluster.nodes[node].kill();
                self.wait(0, 800).await;
                // The links notice by themselves, a busy machine may take its time.
                let broken =
                    async || (self.broken(node) > before).then(|| self.broken(node) - before);
                return Ok(until(EFFECT_WITHIN, broken).await.unwrap_or(0));
            }
            Fault::StopNode => {
                self.cluster.nodes[node].signal(Signal::STOP);
                let still = self
                    .standstill(|publisher| publisher.plan.node == node)
                    .await;
                self.cluster.nodes[node].signal(Signal::CONT);
                return Ok(still);
            }
            Fault::KillRedis => {
                self.redis()?.kill();
                self.wait(200, 800).await;
            }
            Fault::StopRedis => {
                self.redis()?.signal(Signal::STOP);
                let still = self.standstill(|_| true).await;
                self.redis()?.signal(Signal::CONT);
                return Ok(still);
            }
            Fault::FailOver => self.fail_over().await?,
            Fault::Cut => return Ok(self.cut().await),
            Fault::FullDisk => {
                let disk = self.cluster.disk.as_ref().context("no disk to fill")?;
                disk.fill()?;
                let pause = between_ms(&mut self.plan.chance, 1_200, 2_200);
                sleep(pause).await;
                self.cluster
                    .disk
                    .as_ref()
                    .context("no disk to empty")?
                    .empty()?;
            }
            Fault::ClockForward => return self.leap().await,
            Fault::ClockBack => return self.fall_back().await,
        }
        Ok(0)
    }

    /// For how long none of these publishers is answered, while a process is stopped.
    async fn standstill(&mut self, which: impl Fn(&Publisher) -> bool) -> u64 {
        let mut acknowledged = || -> u64 {
            let publishers = self
                .publishers
                .iter_mut()
                .filter(|publisher| which(publisher));
            publishers
                .map(|publisher| publisher.known().acknowledged)
                .sum()
        };
        let mut before = acknowledged();
        let settled = async || {
            sleep(QUIET).await;
            let now = acknowledged();
            let quiet = now == before;
            before = now;
            quiet.then(Instant::now)
        };
        let Some(since) = until(EFFECT_WITHIN, settled).await else {
            return 0;
        };
        self.wait(500, 2_500).await;
        let still = self
            .publishers
            .iter_mut()
            .filter(|publisher| which(publisher))
            .map(|one| one.known().acknowledged);
        if still.sum::<u64>() == before {
            u64::try_from(since.elapsed().as_millis()).unwrap_or(0)
        } else {
            0
        }
    }

    /// Lets Redis lose what it acknowledges in a short while. How much that is, the records tell at the end.
    async fn fail_over(&mut self) -> anyhow::Result<()> {
        let mut fail_over = self.cluster.start_fail_over().await?;
        let lost = fail_over
            .lose(self.plan.chance.random_range(LOST_AT_LEAST))
            .await?;
        // Their publishers are told that they are stored, and then they are lost.
        let acknowledged = async || {
            let is_told = |publisher: &mut Publisher| {
                let newest = publisher.known().newest;
                lost.iter().any(|event| {
                    event.channel.as_str() == publisher.plan.channel && event.id <= newest
                })
            };
            self.publishers.iter_mut().any(is_told).then_some(())
        };
        let _ = until(EFFECT_WITHIN, acknowledged).await;
        fail_over.finish(self.redis()?).await?;
        self.lost.extend(lost);
        Ok(())
    }

    /// Cuts some connections, each within a frame.
    async fn cut(&mut self) -> u64 {
        let links: Vec<Arc<Control>> = (0..4)
            .map(|_| {
                self.links[self.plan.chance.random_range(0..self.links.len())]
                    .1
                    .clone()
            })
            .collect();
        let in_frames = |links: &[Arc<Control>]| -> u64 {
            links
                .iter()
                .map(|link| link.counts.cut_in_a_frame.load(Relaxed))
                .sum()
        };
        let before = in_frames(&links);
        for link in &links {
            link.cut();
        }
        let cut = async || (in_frames(&links) > before).then(|| in_frames(&links) - before);
        until(EFFECT_WITHIN, cut).await.unwrap_or(0)
    }

    async fn leap(&mut self) -> anyhow::Result<u64> {
        let seconds = self.plan.chance.random_range(30..90);
        let before = self.known().newest.ms;
        self.cluster
            .clock
            .as_mut()
            .context("no clock to step")?
            .leap(seconds)?;
        let leapt = async || {
            let leap = self.known().newest.ms.saturating_sub(before);
            (leap > seconds.unsigned_abs() * 500).then_some(leap)
        };
        Ok(until(EFFECT_WITHIN, leapt).await.unwrap_or(0))
    }

    async fn fall_back(&mut self) -> anyhow::Result<u64> {
        let seconds = self.plan.chance.random_range(10..120);
        self.cluster
            .clock
            .as_mut()
            .context("no clock to step")?
            .fall_back(seconds)?;
        let before = self.known();
        self.wait(500, 1_500).await;
        // Events go on, with ids above those before, which the clock has not reached again.
        let goes_on = async || {
            let known = self.known();
            let ahead = known
                .newest
                .ms
                .saturating_sub(self.cluster.clock.as_ref()?.now_ms());
            (known.newest > before.newest && ahead > 0).then_some(ahead)
        };
        Ok(until(EFFECT_WITHIN, goes_on).await.unwrap_or(0))
    }

    /// Waits until every publisher is answered again.
    async fn recover(&mut self, fault: Fault) {
        for publisher in &mut *self.publishers {
            if let Some(trouble) = publisher.trouble() {
                self.breaches.add(Breach::Trouble, trouble);
                continue;
            }
            let before = publisher.known().acknowledged;
            let answered = async || (publisher.known().acknowledged > before).then_some(());
            if until(RECOVER_WITHIN, answered).await.is_none() {
                let what = format!(
                    "the {} is not answered {RECOVER_WITHIN:?} after: {}",
                    publisher.name(),
                    fault.name()
                );
                self.breaches.add(Breach::Trouble, what);
            }
        }
    }

    async fn wait(&mut self, from_ms: u64, to_ms: u64) {
        sleep(between_ms(&mut self.plan.chance, from_ms, to_ms)).await;
    }

    fn redis(&mut self) -> anyhow::Result<&mut crate::cluster::Server> {
        self.cluster.redis.as_mut().context("no Redis to break")
    }

    /// Connections that a node has left without their end.
    fn broken(&self, node: usize) -> u64 {
        let of_node = self.links.iter().filter(|(number, _)| *number == node);
        of_node
            .map(|(_, link)| link.counts.broken.load(Relaxed))
            .sum()
    }

    /// What all publishers know together.
    fn known(&mut self) -> Known {
        self.publishers
            .iter_mut()
            .map(Publisher::known)
            .fold(Known::default(), |sum, one| Known {
                acknowledged: sum.acknowledged + one.acknowledged,
                unknown: sum.unknown + one.unknown,
                refused: sum.refused + one.refused,
                newest: sum.newest.max(one.newest),
            })
    }
}
