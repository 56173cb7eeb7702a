//! Injects the planned faults one after the other, and measures the effect of each: a fault without
//! an effect proves nothing.

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

/// After a fault everything must work again within this time; otherwise a guarantee is broken.
const RECOVER_WITHIN: Duration = Duration::from_secs(30);
/// Time for an effect to show.
const EFFECT_WITHIN: Duration = Duration::from_secs(5);
/// Least number of events that a failover loses. The number is small, so that the resulting gaps
/// are rare.
const LOST_AT_LEAST: std::ops::Range<u64> = 3..10;
/// If nothing is acknowledged for this long, requests in flight when a process was stopped have
/// arrived.
const QUIET: Duration = Duration::from_millis(200);

/// Injects faults into the cluster and the connections.
pub(crate) struct Faults<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) publishers: &'a mut [Publisher],
    /// Links of listeners and publishers, each with the number of its node.
    pub(crate) links: Vec<(usize, Arc<Control>)>,
    pub(crate) plan: FaultPlan,
    pub(crate) effects: BTreeMap<Fault, Effect>,
    pub(crate) breaches: &'a mut Breaches,
    /// Number of times that a node ended by itself where this is allowed.
    pub(crate) gave_up: u64,
    /// Events that Redis had stored and lost in failovers.
    pub(crate) lost: Vec<LostEvent>,
}

/// Effect of the faults of one kind.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Effect {
    pub(crate) times: u64,
    /// Sum in the unit of the kind.
    pub(crate) sum: u64,
}

impl Faults<'_> {
    /// Injects faults for this long, and then until each kind has had its turn.
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
            // On a full disk a node may end by itself; a supervisor then restarts it.
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

    /// Injects one fault from start to end. Returns its effect, or 0 for kinds whose effect shows
    /// only later.
    async fn strike(&mut self, fault: Fault) -> anyhow::Result<u64> {
        let node = self.plan.chance.random_range(0..self.cluster.nodes.len());
        match fault {
            Fault::KillNode => {
                let before = self.broken(node);
                self.cluster.nodes[node].kill();
                self.wait(0, 800).await;
                // Links detect the end by themselves, which takes time on a busy machine.
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
            Fault::RollingRestart => return self.restart_all_nodes().await,
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
            Fault::PlannedFailover | Fault::KillPrimary | Fault::StopPrimary | Fault::MoveSlots => {
                return self.change_primary(fault).await;
            }
            Fault::Failover if self.cluster.sentinels.is_some() => {
                return self.change_primary(fault).await;
            }
            Fault::Failover => self.failover().await?,
            Fault::FlaskLeader => return self.harm_flask_leader().await,
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

    /// Returns how long these publishers got no acknowledgement while a process was stopped.
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

    /// Drains and restarts one node after the other. Returns how many streams the drains have ended.
    async fn restart_all_nodes(&mut self) -> anyhow::Result<u64> {
        let http = self.cluster.http();
        let mut drained = 0;
        for number in 0..self.cluster.nodes.len() {
            let node = &mut self.cluster.nodes[number];
            drained += node.drain(&http).await?;
            // The next node is drained only when this one serves again.
            self.cluster.revive().await?;
        }
        Ok(drained)
    }

    /// Makes Redis lose what it acknowledges within a short time. The records show the number of
    /// lost events at the end.
    async fn failover(&mut self) -> anyhow::Result<()> {
        let mut failover = self.cluster.start_failover().await?;
        let lost = failover
            .lose(self.plan.chance.random_range(LOST_AT_LEAST))
            .await?;
        // The publishers receive acknowledgements for these events before the events are lost.
        let acknowledged = async || {
            let has_acknowledgement = |publisher: &mut Publisher| {
                let newest = publisher.known().newest;
                lost.iter().any(|event| {
                    event.channel.as_str() == publisher.plan.channel && event.id <= newest
                })
            };
            self.publishers
                .iter_mut()
                .any(has_acknowledgement)
                .then_some(())
        };
        let _ = until(EFFECT_WITHIN, acknowledged).await;
        failover.finish(self.redis()?).await?;
        self.lost.extend(lost);
        Ok(())
    }

    /// Lets another Redis own a channel; returns the effect: mostly how long that took in milliseconds.
    async fn change_primary(&mut self, fault: Fault) -> anyhow::Result<u64> {
        let number = self.plan.chance.random_range(0..3);
        if let Some(redis) = &mut self.cluster.shards {
            let outcome = redis.strike(fault, number).await?;
            self.lost.extend(outcome.lost);
            return Ok(outcome.effect);
        }
        let sentinels = self.cluster.sentinels.as_mut().context("no sentinels")?;
        let outcome = sentinels.strike(fault, number).await?;
        self.lost.extend(outcome.lost);
        Ok(outcome.effect)
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
        // New events must get ids greater than those before, although the clock is behind them.
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

    /// Waits until every publisher receives acknowledgements again.
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

    /// Returns the number of connections that a node broke without ending the response.
    fn broken(&self, node: usize) -> u64 {
        let of_node = self.links.iter().filter(|(number, _)| *number == node);
        of_node
            .map(|(_, link)| link.counts.broken.load(Relaxed))
            .sum()
    }

    /// Returns the combined progress of all publishers.
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
