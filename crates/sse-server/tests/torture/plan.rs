//! The plan of a run: publishers, listeners and their behaviour, and the times of faults. The seed
//! determines all of it.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::options::BrokerName;

/// Channels that publishers and listeners use.
pub(crate) const CHANNELS: [&str; 3] = ["orders", "users", "site"];

/// Returns a random number generator. Each purpose has its own, so that one does not disturb
/// another.
pub(crate) fn chance(seed: u64, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Returns a random duration between two numbers of milliseconds.
pub(crate) fn between_ms(chance: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(chance.random_range(from..=to))
}

/// Plan of a generator that publishes events of one type to one channel.
#[derive(Debug, Clone)]
pub(crate) struct PublisherPlan {
    pub(crate) channel: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) rate: u32,
    /// Events per request.
    pub(crate) batch: u32,
    /// Number of the node that the generator publishes to.
    pub(crate) node: usize,
    /// Whether the generator's connections pass through the proxy, which cuts them.
    pub(crate) proxied: bool,
}

/// Plan of a listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerPlan {
    pub(crate) channels: Vec<&'static str>,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) behaviour: Behaviour,
    /// Numbers of the nodes in the listener's list, in order.
    pub(crate) nodes: Vec<usize>,
}

/// Behaviour of a listener, or what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Follows its channels without interruption.
    Steady,
    /// Repeatedly reads its connection slowly for a while.
    Slow,
    /// The reader of the listener's output is slow.
    SlowOutput,
    /// Is cut at random, and reconnects with its last id.
    Reconnecting,
    /// Is cut at random, and reconnects to a different node each time.
    Hopping,
    /// Is cut several times right after the first id, before its first event, and is disconnected
    /// while events are published.
    CutFirst,
    /// Is stopped and restarted with `--state`.
    Restarted,
    /// Joins after events have started to flow.
    Late,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    KillNode,
    StopNode,
    RollingRestart,
    KillRedis,
    StopRedis,
    Failover,
    FlaskLeader,
    PlannedFailover,
    KillPrimary,
    StopPrimary,
    MoveSlots,
    Cut,
    FullDisk,
    ClockForward,
    ClockBack,
}

impl Fault {
    /// Returns the kinds of faults that apply to a broker.
    pub(crate) fn of(broker: BrokerName) -> Vec<Self> {
        let mut kinds = vec![
            Self::KillNode,
            Self::StopNode,
            Self::RollingRestart,
            Self::Cut,
            Self::ClockForward,
            Self::ClockBack,
        ];
        match broker {
            BrokerName::Embedded => kinds.push(Self::FullDisk),
            BrokerName::Redis => kinds.extend([
                Self::KillRedis,
                Self::StopRedis,
                Self::Failover,
                Self::FlaskLeader,
            ]),
            BrokerName::Sentinel => kinds.extend([
                Self::PlannedFailover,
                Self::KillPrimary,
                Self::StopPrimary,
                Self::Failover,
            ]),
            BrokerName::Cluster => {
                kinds.extend([Self::PlannedFailover, Self::KillPrimary, Self::MoveSlots]);
            }
        }
        kinds
    }

    /// Returns the kind's name for the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KillNode => "kill -9 and restart of a node",
            Self::StopNode => "a node stopped (SIGSTOP)",
            Self::RollingRestart => "drain and restart of all nodes",
            Self::KillRedis => "kill -9 and restart of Redis",
            Self::StopRedis => "Redis stopped (SIGSTOP)",
            Self::Failover => "failover that loses events",
            Self::FlaskLeader => "leader of the bridge harmed",
            Self::PlannedFailover => "planned failover",
            Self::KillPrimary => "kill -9 of a primary",
            Self::StopPrimary => "a primary stopped until another one is promoted",
            Self::MoveSlots => "slot moved to another primary",
            Self::Cut => "connection cut in a frame",
            Self::FullDisk => "disk full",
            Self::ClockForward => "clock stepped forward",
            Self::ClockBack => "clock stepped back",
        }
    }

    /// Returns the unit of the kind's effect.
    pub(crate) const fn effect(self) -> &'static str {
        match self {
            Self::KillNode => "connections broken",
            Self::StopNode | Self::StopRedis => "ms without an acknowledgement",
            Self::RollingRestart => "streams ended by the drain",
            Self::Cut => "frames cut in two",
            Self::FlaskLeader => "messages of Flask-SSE stored",
            Self::Failover => "acknowledged events lost",
            Self::PlannedFailover | Self::KillPrimary | Self::StopPrimary => {
                "ms until another primary"
            }
            Self::MoveSlots => "keys moved",
            Self::KillRedis | Self::FullDisk => "publishes refused or unknown",
            Self::ClockForward => "ms that ids leapt",
            Self::ClockBack => "ms that ids stayed ahead of the clock",
        }
    }
}

/// An endless sequence of faults: first each kind once, then random kinds.
#[derive(Debug)]
pub(crate) struct FaultPlan {
    kinds: Vec<Fault>,
    round: Vec<Fault>,
    pub(crate) chance: StdRng,
}

impl FaultPlan {
    /// Creates a plan for these kinds.
    pub(crate) fn new(seed: u64, kinds: Vec<Fault>) -> Self {
        let mut chance = chance(seed, 1);
        let mut round = kinds.clone();
        round.shuffle(&mut chance);
        Self {
            kinds,
            round,
            chance,
        }
    }

    /// Returns the next fault, and the pause before it.
    pub(crate) fn next(&mut self) -> (Duration, Fault) {
        let fault = self
            .round
            .pop()
            .unwrap_or_else(|| self.kinds[self.chance.random_range(0..self.kinds.len())]);
        (between_ms(&mut self.chance, 300, 900), fault)
    }

    /// Returns true once each kind has occurred.
    pub(crate) fn each_had_its_turn(&self) -> bool {
        self.round.is_empty()
    }
}

/// Returns the plans of the publishers.
pub(crate) fn publishers(nodes: usize) -> Vec<PublisherPlan> {
    let of = |number: usize, channel, kind, rate| PublisherPlan {
        channel,
        kind,
        rate,
        batch: if number == 3 { 5 } else { 1 },
        node: number % nodes,
        proxied: number == 1,
    };
    vec![
        of(0, CHANNELS[0], "view", 60),
        of(1, CHANNELS[0], "click", 60),
        of(2, CHANNELS[1], "view", 60),
        of(3, CHANNELS[1], "click", 40),
        of(4, CHANNELS[2], "close", 60),
    ]
}

/// Returns the plans of the listeners. With `several`, some follow several channels in one stream.
pub(crate) fn listeners(seed: u64, nodes: usize, several: bool) -> Vec<ListenerPlan> {
    use Behaviour::{CutFirst, Hopping, Late, Reconnecting, Restarted, Slow, SlowOutput, Steady};
    let [orders, users, site] = CHANNELS;
    let mut plans = vec![
        (vec![orders], vec![], Steady),
        (vec![users], vec![], Steady),
        (vec![site], vec![], Steady),
        (vec![orders], vec![], Slow),
        (vec![users], vec![], SlowOutput),
        (vec![orders], vec!["click"], Reconnecting),
        (vec![users], vec![], Reconnecting),
        (vec![site], vec![], Hopping),
        (vec![orders], vec![], Hopping),
        (vec![users], vec![], CutFirst),
        (vec![orders], vec![], Restarted),
        (vec![users], vec!["view"], Late),
    ];
    if several {
        plans.extend([
            (vec![orders, users], vec![], Reconnecting),
            (vec![orders, users, site], vec![], Hopping),
            (vec![users, site], vec!["close", "click"], Restarted),
        ]);
    }
    let mut chance = chance(seed, 2);
    let plan = |(number, (channels, kinds, behaviour))| {
        let mut order: Vec<usize> = (0..nodes).collect();
        order.shuffle(&mut chance);
        if behaviour != Hopping {
            // Spread the listeners evenly, so that every node serves some of them.
            order = vec![number % nodes];
        }
        ListenerPlan {
            channels,
            kinds,
            behaviour,
            nodes: order,
        }
    };
    plans.into_iter().enumerate().map(plan).collect()
}
