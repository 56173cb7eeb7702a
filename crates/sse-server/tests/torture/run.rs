//! One run: starts the cluster, the publishers and the listeners, and injects faults. It then
//! restores everything, lets all listeners catch up, and checks the records.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sse_proto::{Channel, EventId};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::{Breach, Breaches, Figures, Ledger, LostEvent},
    cluster::Cluster,
    faults::Faults,
    lifecycles::{self, Lifecycles},
    listeners::Listener,
    options::{BrokerName, LONG_ENOUGH, Plant},
    plan::{self, Fault, FaultPlan, ListenerPlan},
    processes::until,
    proxy::Control,
    publishers::Publisher,
    report::Report,
};

const CATCH_UP_WITHIN: Duration = Duration::from_secs(90);
/// Number of final events per publisher. A listener that has them has received all earlier events.
const CLOSING_EVENTS: u32 = 3;
/// A run with an injected fault needs only these listeners; the fault applies to the first one.
const LISTENERS_OF_A_PLANT: usize = 3;

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Orders {
    pub(crate) broker: BrokerName,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) plant: Option<Plant>,
}

/// Executes a run, with all files in this directory.
pub(crate) async fn run(orders: Orders, directory: &Path) -> anyhow::Result<Report> {
    let mut cluster = Cluster::start(orders.broker, directory, true).await?;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    let several = cluster.has_streams_of_several_channels().await?;
    let (kinds, skipped) = kinds(&cluster, orders, several);
    let mut breaches = Breaches::default();

    let plans = listener_plans(orders, ports.len(), several);
    let listeners = start_listeners(&plans, orders, &ports, directory).await?;
    let mut links: Vec<_> = listeners
        .iter()
        .flat_map(Listener::shared_controls)
        .collect();
    let (mut publishers, publisher_links) = start_publishers(&ports, directory).await?;
    links.extend(publisher_links);
    let stop = CancellationToken::new();
    let lifecycles = start_lifecycles(orders, &ports, &stop)?;
    let living = spawn_listeners(listeners, orders.seed, &stop);
    let behind_tail = tokio::spawn(watch_behind_tail(
        cluster.http(),
        ports.clone(),
        stop.clone(),
    ));

    let plan = FaultPlan::new(orders.seed, kinds.clone());
    let (mut effects, gave_up, lost) = if kinds.is_empty() {
        sleep(orders.duration).await;
        (BTreeMap::new(), 0, Vec::new())
    } else {
        let (effects, gave_up, lost) = (BTreeMap::new(), 0, Vec::new());
        let (cluster, publishers, breaches) = (&mut cluster, &mut publishers[..], &mut breaches);
        let mut faults = Faults {
            cluster,
            publishers,
            links,
            plan,
            effects,
            breaches,
            gave_up,
            lost,
        };
        faults.run(orders.duration).await?;
        (faults.effects, faults.gave_up, faults.lost)
    };

    stop.cancel();
    let mut listeners = Vec::new();
    for one in living {
        listeners.push(one.await.context("a listener's task")??);
    }
    breaches.add_all(Breach::Trouble, cluster.revive().await?);
    let lives = end_lifecycles(lifecycles, &mut breaches).await?;
    finish(
        &mut publishers,
        &mut listeners,
        &ports,
        directory,
        &mut breaches,
    )
    .await?;
    breaches.add_all(Breach::Trouble, cluster.panics());

    let idle: Vec<String> = listeners
        .iter()
        .filter_map(Listener::idle_behaviour)
        .collect();
    let summaries = listeners.iter().map(Listener::summary).collect();
    let refused = publishers
        .iter_mut()
        .map(|publisher| publisher.known().refused)
        .sum();
    let (figures, found) = check(&publishers, lost, &listeners)?;
    breaches.extend(found);
    effects
        .entry(Fault::Failover)
        .and_modify(|effect| effect.sum = figures.lost);
    let behind_tail = behind_tail
        .await
        .context("the task that asks for metrics")?;
    let mut report = Report {
        kinds,
        effects,
        figures,
        refused,
        behind_tail,
        gave_up,
        listeners: summaries,
        lives,
        skipped,
        breaches,
    };
    report.demand_few_gaps();
    if orders.duration >= LONG_ENOUGH {
        report.demand_effects(idle);
    }
    if !report.breaches.is_empty() {
        cluster.keep_disk(directory);
    }
    Ok(report)
}

/// Lets the listeners live until `stop`.
fn spawn_listeners(
    listeners: Vec<Listener>,
    seed: u64,
    stop: &CancellationToken,
) -> Vec<JoinHandle<anyhow::Result<Listener>>> {
    let live = |(number, listener): (usize, Listener)| {
        tokio::task::spawn_local(listener.live(seed.wrapping_add(number as u64), stop.clone()))
    };
    listeners.into_iter().enumerate().map(live).collect()
}

/// Starts channels that end, except in a run with an injected fault.
fn start_lifecycles(
    orders: Orders,
    ports: &[u16],
    stop: &CancellationToken,
) -> anyhow::Result<Option<Lifecycles>> {
    if orders.plant.is_some() {
        return Ok(None);
    }
    Lifecycles::start(orders.broker, ports, orders.seed, stop).map(Some)
}

/// Waits until the last channels have ended.
async fn end_lifecycles(
    lifecycles: Option<Lifecycles>,
    breaches: &mut Breaches,
) -> anyhow::Result<Option<lifecycles::Figures>> {
    let Some(lifecycles) = lifecycles else {
        return Ok(None);
    };
    let (figures, found) = lifecycles.finish().await?;
    breaches.extend(found);
    Ok(Some(figures))
}

/// Starts the listeners, and waits until each has joined; the first one gets the injected fault.
async fn start_listeners(
    plans: &[ListenerPlan],
    orders: Orders,
    ports: &[u16],
    directory: &Path,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let injected = orders.plant.filter(|_| number == 0);
        let mut listener = Listener::new(number, plan, ports, directory, injected).await?;
        listener.join().await?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Starts the publishers; also returns the links to their nodes.
async fn start_publishers(
    ports: &[u16],
    directory: &Path,
) -> anyhow::Result<(Vec<Publisher>, Vec<(usize, Arc<Control>)>)> {
    let (mut publishers, mut links) = (Vec::new(), Vec::new());
    for (number, plan) in plan::publishers(ports.len()).iter().enumerate() {
        let files = directory.join(format!("publisher-{number}"));
        let publisher = Publisher::start(plan, ports[plan.node], &files, None).await?;
        links.extend(
            publisher
                .link
                .as_ref()
                .map(|link| (plan.node, link.control.clone())),
        );
        publishers.push(publisher);
    }
    Ok((publishers, links))
}

/// Returns the kinds of faults of this run, and the parts that are skipped because they are not
/// possible here.
fn kinds(cluster: &Cluster, orders: Orders, several: bool) -> (Vec<Fault>, Vec<String>) {
    let mut skipped = Vec::new();
    if !several {
        skipped.push("listeners on several channels: this server has no such streams".to_owned());
    }
    if orders.plant.is_some() {
        return (Vec::new(), skipped);
    }
    let mut kinds = Fault::of(orders.broker);
    if cluster.clock.is_none() {
        kinds.retain(|kind| !matches!(kind, Fault::ClockForward | Fault::ClockBack));
        skipped.push(
            "stepping the clock: libfaketime is not there (Debian's package is faketime), or not for this program"
                .to_owned(),
        );
    }
    if orders.broker == BrokerName::Embedded && cluster.disk.is_none() {
        kinds.retain(|kind| *kind != Fault::FullDisk);
        skipped.push("a full disk: only root may mount a small one".to_owned());
    }
    (kinds, skipped)
}

fn listener_plans(orders: Orders, nodes: usize, several: bool) -> Vec<ListenerPlan> {
    let mut plans = plan::listeners(orders.seed, nodes, several);
    if orders.plant.is_some() {
        plans.truncate(LISTENERS_OF_A_PLANT);
    }
    plans
}

/// Publishes the final events, waits until every listener has them, and stops all clients.
async fn finish(
    publishers: &mut Vec<Publisher>,
    listeners: &mut [Listener],
    ports: &[u16],
    directory: &Path,
    breaches: &mut Breaches,
) -> anyhow::Result<()> {
    for publisher in &mut *publishers {
        publisher.stop().await?;
    }
    for number in 0..publishers.len() {
        let plan = plan::PublisherPlan {
            proxied: false,
            batch: 1,
            ..publishers[number].plan.clone()
        };
        let files = directory.join(format!("closing-{number}"));
        let mut closing =
            Publisher::start(&plan, ports[plan.node], &files, Some(CLOSING_EVENTS)).await?;
        closing.end().await?;
        if closing.known().acknowledged != u64::from(CLOSING_EVENTS) {
            breaches.add(
                Breach::Trouble,
                format!("with everything up, the {} is not answered", closing.name()),
            );
        }
        publishers.push(closing);
    }
    let deadline = Instant::now() + CATCH_UP_WITHIN;
    for listener in &mut *listeners {
        let ends = ends(publishers, &listener.plan)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if until(left, async || listener.has_reached(&ends).then_some(()))
            .await
            .is_none()
        {
            let what = format!(
                "{} has not got everything {CATCH_UP_WITHIN:?} after the last fault",
                listener.name
            );
            breaches.add(Breach::Trouble, what);
        }
    }
    for listener in &mut *listeners {
        if let Err(error) = listener.stop().await {
            breaches.add(Breach::Trouble, format!("{error:#}"));
        }
    }
    Ok(())
}

/// Returns the highest acknowledged id of each channel that a listener follows.
fn ends(
    publishers: &mut [Publisher],
    listener: &ListenerPlan,
) -> anyhow::Result<Vec<(Channel, EventId)>> {
    let mut ends = Vec::new();
    for channel in &listener.channels {
        let followed = publishers.iter_mut().filter(|publisher| {
            let plan = &publisher.plan;
            plan.channel == *channel
                && (listener.kinds.is_empty() || listener.kinds.contains(&plan.kind))
        });
        let end = followed
            .map(|publisher| publisher.known().newest)
            .max()
            .unwrap_or_default();
        ends.push((channel.parse()?, end));
    }
    Ok(ends)
}

fn check(
    publishers: &[Publisher],
    lost: Vec<LostEvent>,
    listeners: &[Listener],
) -> anyhow::Result<(Figures, Breaches)> {
    let mut ledger = Ledger::default();
    for publisher in publishers {
        for sent in publisher.sent()? {
            ledger.sent(publisher.plan.kind, sent?);
        }
    }
    for event in lost {
        ledger.lost(event);
    }
    let mut all = Vec::new();
    for listener in listeners {
        if let Some(follows) = listener.follows() {
            all.push(ledger.follow(follows, listener.received()?));
        }
    }
    Ok(ledger.conclude(&all))
}

/// Counts how often subscribers fell behind the tails of nodes. A killed node restarts its counter
/// at zero.
async fn watch_behind_tail(http: reqwest::Client, ports: Vec<u16>, stop: CancellationToken) -> u64 {
    let mut last = vec![0; ports.len()];
    let mut sum = 0;
    while !stop.is_cancelled() {
        for (port, last) in ports.iter().zip(&mut last) {
            if let Some(now) = Cluster::behind_tail(&http, *port).await {
                sum += if now >= *last { now - *last } else { now };
                *last = now;
            }
        }
        sleep(Duration::from_millis(300)).await;
    }
    sum
}
