//! The torture test: runs the real programs under faults, and checks that no acknowledged event was
//! lost, duplicated or reordered.
//!
//! `scripts/torture` runs the test with options. As a test (`cargo test --test torture`) it runs
//! for 20 seconds per broker with a fixed seed. The test then tests itself: the checker must find
//! an event that the proxy drops, duplicates or swaps.
//!
//! | file | content |
//! |---|---|
//! | `plan` | publishers, listeners and faults of a run, determined by the seed |
//! | `cluster`, `clock`, `disk`, `processes`, `programs` | the servers and their environment |
//! | `proxy`, `slow_link`, `first_id`, `fault_injection` | cut, slow or changed connections |
//! | `publishers`, `listeners`, `records` | the clients and their records |
//! | `lifecycles` | channels that end, and their subscribers |
//! | `faults`, `failover`, `flask_leader`, `sentinel`, `redis_cluster` | inject faults, and measure their effect |
//! | `checker` | checks the guarantees (pure; tested in `tests/proof`) |
//! | `run`, `report` | executes a run, and reports its results |
//! | `attack` | a run under attack instead of faults (`--attack`) |

mod attack;
#[expect(dead_code, reason = "tests/attacks has requests of its own")]
#[path = "../attacks/attacker.rs"]
mod attacker;
mod checker;
mod clock;
mod cluster;
mod disk;
mod failover;
mod fault_injection;
mod faults;
mod first_id;
mod flask_leader;
mod lifecycles;
mod listeners;
mod options;
mod plan;
mod processes;
mod programs;
mod proxy;
mod publishers;
mod records;
mod redis_cluster;
mod report;
mod run;
mod sentinel;
#[path = "../server/common/skipped.rs"]
mod skipped;
mod slow_link;
#[path = "../attacks/waves.rs"]
mod waves;

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Parser as _, ValueEnum as _};
use futures::future::try_join_all;

use crate::{
    checker::Breach,
    options::{Options, Plant},
    report::Report,
    run::{Orders, run},
};

/// Seed of the runs that `cargo test` starts.
const TEST_SEED: u64 = 1;
const PLANT_DURATION: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        println!("torture: test");
        return ExitCode::SUCCESS;
    }
    if options.is_filtered_out() {
        return ExitCode::SUCCESS;
    }
    match torture(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns true if every guarantee was kept.
fn torture(options: &Options) -> anyhow::Result<bool> {
    programs::build()?;
    // Fails only if a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // The listeners' tasks stay on this thread; the proxies use the other threads.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            kept = all_runs(options) => kept,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                bail!("interrupted")
            }
        }
    })
}

async fn all_runs(options: &Options) -> anyhow::Result<bool> {
    if options.attack {
        return all_attacks(options).await;
    }
    let seed = options.seed.unwrap_or_else(|| {
        if options.is_test() {
            TEST_SEED
        } else {
            rand::random()
        }
    });
    let keep = if options.keep {
        Keep::Always
    } else {
        Keep::Failed
    };
    // Run the brokers concurrently, because each run mostly waits.
    let runs = options.brokers().into_iter().map(|broker| {
        one_run(
            Orders {
                broker,
                duration: options.duration(),
                seed,
                plant: options.plant,
            },
            keep,
        )
    });
    let reports = try_join_all(runs).await?;
    if options.is_test() {
        try_join_all(
            Plant::value_variants()
                .iter()
                .map(|plant| is_found(*plant, seed)),
        )
        .await?;
    }
    // Report skipped parts last, so that they are visible.
    let left_out: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| &report.skipped)
        .map(String::as_str)
        .collect();
    for what in left_out {
        skipped::report("torture", what);
    }
    Ok(reports.iter().all(|report| report.breaches.is_empty()))
}

/// Executes one run under attack per broker, one after another, because their load is measured.
async fn all_attacks(options: &Options) -> anyhow::Result<bool> {
    let mut is_unharmed = true;
    for broker in options.brokers() {
        let title = format!("attack: broker {}", broker.as_str());
        println!("{title}, {} s", options.duration().as_secs());
        let mut directory = tempfile::Builder::new()
            .prefix("attack-")
            .tempdir()
            .context("cannot make a directory")?;
        let outcome = attack::run(broker, options.duration(), directory.path()).await;
        let failed = !outcome
            .as_ref()
            .is_ok_and(|report| report.breaches.is_empty());
        directory.disable_cleanup(failed || options.keep);
        if failed || options.keep {
            println!("reports and logs are in {}", directory.path().display());
        }
        print!("{title}, is over\n{}", outcome?.text());
        is_unharmed &= !failed;
    }
    Ok(is_unharmed)
}

/// The runs whose records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Always,
    Failed,
    Never,
}

/// Executes one run and prints its report.
async fn one_run(orders: Orders, keep: Keep) -> anyhow::Result<Report> {
    let Orders {
        broker,
        duration,
        seed,
        plant,
    } = orders;
    let planted = plant.map_or_else(String::new, |plant| format!(", planted: {plant:?}"));
    let title = format!(
        "torture: broker {}, {} s, seed {seed}{planted}",
        broker.as_str(),
        duration.as_secs()
    );
    println!("{title}");
    let mut directory = tempfile::Builder::new()
        .prefix("torture-")
        .tempdir()
        .context("cannot make a directory")?;
    let outcome = run(orders, directory.path()).await;
    let failed = !outcome
        .as_ref()
        .is_ok_and(|report| report.breaches.is_empty());
    let is_kept = keep == Keep::Always || (failed && keep == Keep::Failed);
    directory.disable_cleanup(is_kept);
    if let Ok(report) = &outcome {
        print!("\n{title}, is over\n{}", report.text());
    }
    if is_kept {
        println!("records and logs are in {}", directory.path().display());
    }
    if failed {
        let (broker, seconds) = (broker.as_str(), duration.as_secs());
        let plant = plant.map_or_else(String::new, |plant| {
            format!(" --plant {plant:?}").to_lowercase()
        });
        let options = format!("--broker {broker} --seconds {seconds} --seed {seed}{plant}");
        println!("FAILED; again by: scripts/torture {options}");
    } else {
        println!("passed: no promise was broken");
    }
    outcome
}

/// Checks that an injected fault is found as the matching kind of breach.
async fn is_found(plant: Plant, seed: u64) -> anyhow::Result<()> {
    let broker = options::BrokerName::Embedded;
    let orders = Orders {
        broker,
        duration: PLANT_DURATION,
        seed,
        plant: Some(plant),
    };
    let report = one_run(orders, Keep::Never).await?;
    let expected = match plant {
        Plant::Drop => vec![Breach::Lost],
        Plant::Double => vec![Breach::Repeated],
        Plant::Swap => vec![Breach::Disordered],
    };
    if report.breaches.kinds() != expected {
        bail!(
            "the torture is blind: {plant:?} was planted, and it found {:?}",
            report.breaches.kinds()
        );
    }
    println!("as it must be: {plant:?} was planted, and found as {expected:?}");
    Ok(())
}
