//! The command line of the torture test, including the arguments that `cargo test` passes to every
//! test program.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Default duration of a run.
const SECONDS_DEFAULT: u64 = 20;
/// A run of at least this length must show an effect of every kind of fault.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  scripts/torture                                     20 seconds of each broker, another run each time
  scripts/torture --broker redis --minutes 10
  scripts/torture --broker sentinel --seconds 20
  scripts/torture --broker cluster --seconds 20
  scripts/torture --broker embedded --seed 7          the plan of an earlier run again
  scripts/torture --broker embedded --seconds 5 --plant drop
                                                      must fail: the proxy drops one event of one listener
  scripts/torture --attack --minutes 60               all attacks beside honest clients

Exit codes: 0 no promise was broken, 1 one was (the records are kept), 2 misused.";

/// Runs the real programs under faults, and checks that no acknowledged event was lost, duplicated
/// or reordered
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(name = "torture", bin_name = "scripts/torture", after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Options {
    /// Test only this broker; by default the embedded log and Redis are tested
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<BrokerName>,

    /// Publish events and inject faults for this many minutes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1440), conflicts_with = "seconds")]
    pub(crate) minutes: Option<u64>,

    /// Publish events and inject faults for this many seconds; the default is 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,

    /// Seed of the plan of faults and listeners; by default a random seed, which is printed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Apply this fault to one event of one listener in the proxy; the run must then fail
    #[arg(long, value_name = "WRONG")]
    pub(crate) plant: Option<Plant>,

    /// Attack the servers beside honest load, instead of injecting faults
    #[arg(long, conflicts_with_all = ["seed", "plant"])]
    pub(crate) attack: bool,

    /// Keep the records and logs of a successful run, too
    #[arg(long)]
    pub(crate) keep: bool,

    /// Set by scripts/torture: the program was not started by `cargo test`.
    #[arg(long, hide = true)]
    manual: bool,

    /// Names of the tests to run, passed by `cargo test`.
    #[arg(hide = true)]
    filter: Vec<String>,
    /// Passed by `cargo test`.
    #[arg(long, hide = true)]
    pub(crate) list: bool,
    /// Passed by `cargo test`.
    #[arg(
        long,
        hide = true,
        alias = "show-output",
        alias = "exact",
        alias = "include-ignored"
    )]
    nocapture: bool,
    /// Passed by `cargo test`.
    #[arg(long, short, hide = true)]
    quiet: bool,
    /// Passed by `cargo test`.
    #[arg(long, hide = true)]
    ignored: bool,
    /// Passed by `cargo test`.
    #[arg(long, hide = true, value_name = "N")]
    test_threads: Option<usize>,
    /// Passed by `cargo test`.
    #[arg(long, hide = true, value_name = "NAME")]
    skip: Vec<String>,
}

/// A broker to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerName {
    /// One node with the embedded log
    Embedded,
    /// Three nodes on one Redis
    Redis,
    /// Three nodes on a primary with two replicas and three sentinels
    Sentinel,
    /// Three nodes on a Redis Cluster of three primaries with a replica each
    Cluster,
}

/// A fault that the proxy injects into one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// Drop the event
    Drop,
    /// Send the event twice
    Double,
    /// Send the event after the next one
    Swap,
}

impl Options {
    /// Returns how long to publish events and inject faults.
    pub(crate) fn duration(&self) -> Duration {
        let seconds = self.seconds.or(self.minutes.map(|minutes| minutes * 60));
        Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT))
    }

    /// Returns the brokers to test. Sentinels and clusters take long to recover, so they are tested only
    /// if they are named.
    pub(crate) fn brokers(&self) -> Vec<BrokerName> {
        match self.broker {
            Some(broker) => vec![broker],
            None => vec![BrokerName::Embedded, BrokerName::Redis],
        }
    }

    /// Returns true if `cargo test` started the program without options of its own.
    pub(crate) fn is_test(&self) -> bool {
        self.broker.is_none()
            && self.minutes.is_none()
            && self.seconds.is_none()
            && self.seed.is_none()
            && self.plant.is_none()
            && !self.attack
            && !self.manual
    }

    /// Returns true if `cargo test` selected only other tests.
    pub(crate) fn is_filtered_out(&self) -> bool {
        let named = |name: &String| "torture".contains(name.as_str());
        self.ignored
            || self.skip.iter().any(named)
            || !(self.filter.is_empty() || self.filter.iter().any(named))
    }
}

impl BrokerName {
    /// Returns the broker's name for output and directories.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}
