//! `backup`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sse_proto::units::parse_positive_duration;

use super::connection_args::{TrustArgs, read_token};
use crate::{
    broker::backup::BackupName,
    config::{Invocation, environment::misused},
    diagnosis::{
        backup::{BackupOrder, make_backup},
        connect::Connection,
        target::HealthTarget,
    },
};

/// The server writes the copy below its --backup-dir, and serves meanwhile. The command waits until
/// the copy is whole, reports progress on stderr and ends with exit code 0, or with 1 if there is no
/// copy. If the command ends early, the server completes the copy all the same.
#[derive(Clone, Args)]
pub(in crate::config) struct BackupCommand {
    /// The server: `http://…`, `https://…` or `unix:PATH`
    #[arg(value_name = "URL", value_parser = str::parse::<HealthTarget>)]
    target: HealthTarget,
    /// The directory of the copy: a name in the --backup-dir of the server, which must be new
    #[arg(value_name = "DIR", value_parser = str::parse::<BackupName>)]
    name: BackupName,
    /// Send the API key or token in this file, which needs the right to administrate
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time for each answer of the server
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_positive_duration
    )]
    timeout: Duration,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(command: BackupCommand) -> Result<Invocation, clap::Error> {
    let order = order(command).map_err(misused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| misused(format!("cannot start the runtime: {error}")))?;
    Ok(match runtime.block_on(make_backup(&order)) {
        Ok(sentence) => Invocation::Print(format!("{sentence}\n")),
        Err(sentence) => Invocation::Fail(format!("{sentence}\n")),
    })
}

fn order(command: BackupCommand) -> Result<BackupOrder, String> {
    Ok(BackupOrder {
        name: command.name,
        token: command.token_file.as_deref().map(read_token).transpose()?,
        connection: Connection {
            target: command.target,
            timeout: command.timeout,
            trust: command.trust.read()?,
        },
    })
}
