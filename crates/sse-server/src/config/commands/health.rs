//! `health`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sse_proto::units::parse_positive_duration;

use crate::{
    config::{
        Invocation,
        environment::{GivenSettings, misused},
    },
    diagnosis::{
        health::{HealthQuestion, ask},
        target::HealthTarget,
    },
};

#[derive(Clone, Args)]
pub(in crate::config) struct HealthCommand {
    /// The server: `http://…`, `https://…` or `unix:PATH` [default: the first --bind that can be
    /// asked]
    #[arg(value_name = "URL", value_parser = str::parse::<HealthTarget>)]
    target: Option<HealthTarget>,
    /// Ask only whether the process responds, and not whether a publish would work
    #[arg(long)]
    live: bool,
    /// Time for the answer
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "3s",
        value_parser = parse_positive_duration
    )]
    timeout: Duration,
    /// Trust the certificates of this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
}

pub(super) fn run(
    command: HealthCommand,
    given: &GivenSettings,
) -> Result<Invocation, clap::Error> {
    let question = question(command, given).map_err(misused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| misused(format!("cannot start the runtime: {error}")))?;
    Ok(match runtime.block_on(ask(&question)) {
        Ok(sentence) => Invocation::Print(format!("{sentence}\n")),
        Err(sentence) => Invocation::Fail(format!("{sentence}\n")),
    })
}

fn question(command: HealthCommand, given: &GivenSettings) -> Result<HealthQuestion, String> {
    let target = match command.target {
        Some(target) => target,
        None => HealthTarget::of_own(&given.args.network.addresses)?,
    };
    let read = |path: PathBuf| {
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    Ok(HealthQuestion {
        target,
        only_live: command.live,
        timeout: command.timeout,
        trusted: command.cacert.map(read).transpose()?,
        insecure: command.insecure,
    })
}
