//! The commands that print and exit: `backup`, `check`, `config`, `copy`, `health`, `key`, `restore`
//! and `token`.
//!
//! | file | contents |
//! |---|---|
//! | `backup`, `restore` | `backup` and `restore` |
//! | `check` | `check` |
//! | `config` | `config check` and `config print` |
//! | `copy` | `copy` |
//! | `health` | `health` |
//! | `connection_args` | the flags of commands that ask a server |
//! | `key` | `key new` and `key signing` |
//! | `token` | `token` and `token check` |

mod backup;
mod check;
mod config;
mod connection_args;
mod copy;
mod health;
mod key;
mod restore;
mod token;

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;
use sse_cli::manual::write_man_pages;

use self::{
    backup::BackupCommand, check::CheckCommand, config::ConfigCommand, copy::CopyCommand,
    health::HealthCommand, key::KeyCommand, restore::RestoreCommand, token::TokenCommand,
};
use super::{
    Invocation,
    cli::Args,
    environment::{GivenSettings, misused},
};

/// What to do instead of serving.
#[derive(Clone, Subcommand)]
pub(super) enum Command {
    /// Let a running server copy its log
    Backup(BackupCommand),
    /// Report what will cause trouble with these settings on this machine
    Check(CheckCommand),
    /// Check a configuration file, or print the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Copy a log to Redis
    Copy(CopyCommand),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages to a directory
    #[command(hide = true)]
    Man {
        /// The directory, which must exist
        directory: PathBuf,
    },
    /// Ask a running server whether it is ready; the exit code is 1 if it is not
    Health(HealthCommand),
    /// Create an API key, or a key that signs tickets
    #[command(subcommand)]
    Key(KeyCommand),
    /// Restore the log from a copy into a data directory that has none
    Restore(RestoreCommand),
    /// Create a ticket, or report what a token grants
    Token(TokenCommand),
}

/// Runs a command.
pub(super) fn run(command: Command, given: GivenSettings) -> Result<Invocation, clap::Error> {
    match command {
        Command::Backup(command) => backup::run(command),
        Command::Check(command) => check::run(&command, given),
        Command::Config(command) => config::run(command, &given),
        Command::Copy(command) => copy::run(command, &given),
        Command::Completions { shell } => Ok(Invocation::Print(print_completions(shell))),
        Command::Man { directory } => write_manual(&directory),
        Command::Health(command) => health::run(command, &given),
        Command::Key(command) => key::run(&command),
        Command::Restore(command) => restore::run(&command, &given),
        Command::Token(command) => token::run(command, &given),
    }
}

/// Returns the script that completes commands and flags.
fn print_completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sse-server", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn write_manual(directory: &Path) -> Result<Invocation, clap::Error> {
    write_man_pages(Args::command(), directory).map_err(misused)?;
    Ok(Invocation::Print(String::new()))
}

#[cfg(test)]
mod tests;
