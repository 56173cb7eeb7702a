//! `health`.

use std::time::Duration;

use clap::Args;
use sse_proto::units::parse_positive_duration;

use super::connection_args::TrustArgs;
use crate::{
    config::{
        Invocation,
        environment::{GivenSettings, misused},
    },
    diagnosis::{
        connect::Connection,
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
    #[command(flatten)]
    trust: TrustArgs,
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
    Ok(HealthQuestion {
        only_live: command.live,
        connection: Connection {
            target,
            timeout: command.timeout,
            trust: command.trust.read()?,
        },
    })
}
