//! `check`.

use clap::Args;

use crate::config::{Config, Invocation, environment::GivenSettings};

/// Nothing is opened for writing, created or changed. The exit code is 0 if no trouble is to be
/// expected, 1 if there are warnings, and 2 if the server would not start or if the settings are
/// wrong.
#[derive(Clone, Args)]
pub(in crate::config) struct CheckCommand {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &CheckCommand, given: GivenSettings) -> Result<Invocation, clap::Error> {
    Ok(Invocation::Check {
        config: Box::new(Config::from_given(given)?),
        json: command.json,
    })
}
