//! `restore`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    broker::embedded::restore,
    config::{
        BrokerKind, Invocation, broker_choice,
        environment::{GivenSettings, misused},
    },
};

/// Stop the server first, and give the same --data-dir and --data-mode as to the server. The
/// directory must not have a log. Readers that cross the restore get a gap with the range of the ids
/// that can be lost. The exit code is 1 if nothing was restored.
#[derive(Clone, Args)]
pub(in crate::config) struct RestoreCommand {
    /// The copy: a directory that `sse-server backup` has made, or its file
    #[arg(value_name = "COPY")]
    copy: PathBuf,
}

pub(super) fn run(
    command: &RestoreCommand,
    given: &GivenSettings,
) -> Result<Invocation, clap::Error> {
    let broker = broker_choice::choose(given).map_err(misused)?;
    let BrokerKind::Directory { path, mode, .. } = &broker.kind else {
        let other = broker.kind.name();
        let why = format!("a copy is restored into a --data-dir, and the settings choose {other}");
        return Err(misused(why));
    };
    Ok(match restore(&command.copy, path, *mode) {
        Ok(restored) => Invocation::Print(format!(
            "restored {} into {}; gap records: {}; ids that can be lost: after {} and before {}\n",
            command.copy.display(),
            path.display(),
            restored.channels,
            restored.lost.after,
            restored.lost.before
        )),
        Err(error) => Invocation::Fail(format!("nothing was restored: {error}\n")),
    })
}
