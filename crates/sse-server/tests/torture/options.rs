//! The command line of the torture, and what `cargo test` says to every test program.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Without a duration.
const SECONDS_DEFAULT: u64 = 20;
/// From here on a run is long enough for every kind of fault to have had an effect.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  scripts/torture                                     20 seconds of each broker, another run each time
  scripts/torture --broker redis --minutes 10
  scripts/torture --broker embedded --seed 7          the plan of an earlier run again
  scripts/torture --broker embedded --seconds 5 --plant drop
                                                      must fail: a listener is robbed of an event

Exit codes: 0 no promise was broken, 1 one was (the records are kept), 2 misused.";

/// Runs the real programs under faults, and checks that no acknowledged event was lost, doubled or disordered
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(name = "torture", bin_name = "scripts/torture", after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Options {
    /// Torture this broker; without it, one after the other
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<BrokerName>,

    /// Publish and break things for this many minutes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1440), conflicts_with = "seconds")]
    pub(crate) minutes: Option<u64>,

    /// Publish and break things for this many seconds; 20 unless said otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,

    /// Plan faults and listeners by this number; without it by a random one, which is printed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Let the proxy do this to one event of one listener: the run must fail then
    #[arg(long, value_name = "WRONG")]
    pub(crate) plant: Option<Plant>,

    /// Keep the records and logs of a run that passed, too
    #[arg(long)]
    pub(crate) keep: bool,

    /// Said by scripts/torture: this is no test run.
    #[arg(long, hide = true)]
    manual: bool,

    /// What `cargo test` passes on: names of the tests to run.
    #[arg(hide = true)]
    filter: Vec<String>,
    /// Of `cargo test`.
    #[arg(long, hide = true)]
    pub(crate) list: bool,
    /// Of `cargo test`.
    #[arg(
        long,
        hide = true,
        alias = "show-output",
        alias = "exact",
        alias = "include-ignored"
    )]
    nocapture: bool,
    /// Of `cargo test`.
    #[arg(long, short, hide = true)]
    quiet: bool,
    /// Of `cargo test`.
    #[arg(long, hide = true)]
    ignored: bool,
    /// Of `cargo test`.
    #[arg(long, hide = true, value_name = "N")]
    test_threads: Option<usize>,
    /// Of `cargo test`.
    #[arg(long, hide = true, value_name = "NAME")]
    skip: Vec<String>,
}

/// A broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerName {
    /// One node with the log inside
    Embedded,
    /// Three nodes on one Redis
    Redis,
}

/// What the proxy does to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// Leaves it out
    Drop,
    /// Sends it twice
    Double,
    /// Sends it after the one that follows
    Swap,
}

impl Options {
    /// How long to publish and break things.
    pub(crate) fn duration(&self) -> Duration {
        let seconds = self.seconds.or(self.minutes.map(|minutes| minutes * 60));
        Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT))
    }

    /// The brokers to torture.
    pub(crate) fn brokers(&self) -> Vec<BrokerName> {
        self.broker.map_or_else(
            || BrokerName::value_variants().to_vec(),
            |broker| vec![broker],
        )
    }

    /// Whether `cargo test` runs it: nothing is asked for.
    pub(crate) fn is_test(&self) -> bool {
        self.broker.is_none()
            && self.minutes.is_none()
            && self.seconds.is_none()
            && self.seed.is_none()
            && self.plant.is_none()
            && !self.manual
    }

    /// Whether this is a test run for other tests.
    pub(crate) fn is_filtered_out(&self) -> bool {
        let named = |name: &String| "torture".contains(name.as_str());
        self.ignored
            || self.skip.iter().any(named)
            || !(self.filter.is_empty() || self.filter.iter().any(named))
    }
}

impl BrokerName {
    /// For people and directories.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}
