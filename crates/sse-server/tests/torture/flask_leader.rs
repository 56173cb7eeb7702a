//! A fault of the bridge to Flask-SSE: the node that stores its messages is killed, frozen, or
//! frozen until another node has taken over, so that two nodes believe to lead.
//!
//! Meanwhile 500 messages per second are published by hand, as Flask-SSE does. A third of them are
//! equal. Afterwards the log must have each of them once.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail};
use rand::RngExt as _;
use rustix::process::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    checker::Breach,
    failover::{ask, connection},
    faults::Faults,
    plan::{Fault, between_ms},
    processes::until,
};

/// The channel that is bridged. No listener follows it.
pub(crate) const CHANNEL: &str = "flask";
/// Pause between two messages: 500 per second.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages of a fault.
const MESSAGES: usize = 2_000;
/// Within this time another node leads, and everything is stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What happens to the leader.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Kill,
    Freeze,
    Duplicate,
}

impl Faults<'_> {
    /// Harms the leader while messages are published. Returns how many messages were stored.
    pub(crate) async fn harm_flask_leader(&mut self) -> anyhow::Result<u64> {
        let times = self
            .effects
            .get(&Fault::FlaskLeader)
            .map_or(0, |effect| effect.times);
        let kind = format!("round-{times}");
        let port = self.cluster.redis.as_ref().context("no Redis")?.port;
        let leader = self.leader(None).await?;
        let publishing = tokio::spawn(publish(port, kind.clone()));
        let pause = between_ms(&mut self.plan.chance, 300, 1_500);
        sleep(pause).await;
        self.harm(leader).await?;
        publishing.await.context("the publisher of messages")??;
        self.check_messages(port, &kind).await
    }

    async fn harm(&mut self, leader: usize) -> anyhow::Result<()> {
        let harms = [Harm::Kill, Harm::Freeze, Harm::Duplicate];
        match harms[self.plan.chance.random_range(0..harms.len())] {
            Harm::Kill => self.cluster.nodes[leader].kill(),
            Harm::Freeze => {
                let pause = between_ms(&mut self.plan.chance, 500, 10_000);
                self.cluster.nodes[leader].signal(Signal::STOP);
                sleep(pause).await;
                self.cluster.nodes[leader].signal(Signal::CONT);
            }
            Harm::Duplicate => {
                self.cluster.nodes[leader].signal(Signal::STOP);
                let other = self.leader(Some(leader)).await;
                self.cluster.nodes[leader].signal(Signal::CONT);
                other?;
            }
        }
        Ok(())
    }

    /// Waits until all nodes except `frozen` receive messages and one of them leads; returns its
    /// number.
    async fn leader(&self, frozen: Option<usize>) -> anyhow::Result<usize> {
        let nodes = (0..self.cluster.nodes.len()).filter(|node| Some(*node) != frozen);
        let nodes: Vec<usize> = nodes.collect();
        let found = until(SETTLED_WITHIN, async || {
            let mut leader = None;
            for node in &nodes {
                let (is_connected, leads) = self.bridge_state(*node).await?;
                if !is_connected {
                    return None;
                }
                leader = leads.then_some(*node).or(leader);
            }
            leader
        });
        found.await.context("no node leads the bridge to Flask-SSE")
    }

    /// Whether the bridge of a node is connected, and whether the node leads.
    async fn bridge_state(&self, node: usize) -> Option<(bool, bool)> {
        let port = self.cluster.nodes[node].port;
        let url = format!("http://127.0.0.1:{port}/metrics");
        let text = self.cluster.http().get(url).send().await.ok()?;
        let text = text.text().await.ok()?;
        let is_one = |name: &str| text.lines().any(|line| line == format!("{name} 1"));
        Some((
            is_one("sse_flask_sse_connected"),
            is_one("sse_flask_sse_leading"),
        ))
    }

    /// Waits until all messages are stored, and compares them with what was published.
    async fn check_messages(&mut self, port: u16, kind: &str) -> anyhow::Result<u64> {
        let complete = async || {
            let stored = stored(port, kind).await.ok()?;
            (stored.values().sum::<usize>() >= MESSAGES).then_some(())
        };
        let _ = until(SETTLED_WITHIN, complete).await;
        // What would be stored twice may come a moment later.
        sleep(Duration::from_secs(1)).await;
        let stored = stored(port, kind).await?;
        let mut published: HashMap<String, usize> = HashMap::new();
        for number in 0..MESSAGES {
            *published.entry(data(number)).or_default() += 1;
        }
        for (data, count) in &published {
            let found = stored.get(data).copied().unwrap_or(0);
            let breach = match found.cmp(count) {
                std::cmp::Ordering::Less => Breach::Lost,
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => Breach::Repeated,
            };
            let what =
                format!("{kind}: message {data:?} of Flask-SSE is stored {found} times of {count}");
            self.breaches.add(breach, what);
        }
        Ok(stored.values().sum::<usize>() as u64)
    }
}

/// Data of a message: every third one is equal.
fn data(number: usize) -> String {
    if number.is_multiple_of(3) {
        "equal".to_owned()
    } else {
        number.to_string()
    }
}

async fn publish(port: u16, kind: String) -> anyhow::Result<()> {
    let mut connection = connection(port).await?;
    let mut timer = interval(PAUSE);
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..MESSAGES {
        timer.tick().await;
        let message = format!(r#"{{"data": "{}", "type": "{kind}"}}"#, data(number));
        let mut command = redis::cmd("PUBLISH");
        command.arg(CHANNEL).arg(message);
        let receivers: u64 = ask(&mut connection, &command).await?;
        if receivers == 0 {
            bail!("no node receives the messages of Flask-SSE");
        }
    }
    Ok(())
}

/// Returns how often the log has each data of this type.
async fn stored(port: u16, kind: &str) -> anyhow::Result<HashMap<String, usize>> {
    type Entry = (String, HashMap<String, String>);
    let mut connection = connection(port).await?;
    let mut command = redis::cmd("XRANGE");
    command.arg(format!("sse:{{{CHANNEL}}}")).arg("-").arg("+");
    let entries: Vec<Entry> = ask(&mut connection, &command).await?;
    let mut stored = HashMap::new();
    for (_, mut fields) in entries {
        if fields.get("event").is_some_and(|event| event == kind)
            && let Some(data) = fields.remove("data")
        {
            *stored.entry(data).or_default() += 1;
        }
    }
    Ok(stored)
}
