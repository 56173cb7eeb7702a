//! The commands that print and exit: `config`, `key` and `token`.
//!
//! | file | contents |
//! |---|---|
//! | `config` | `config check` and `config print` |
//! | `key` | `key new` and `key signing` |
//! | `token` | `token` and `token check` |

mod config;
mod key;
mod token;

use clap::Subcommand;

use self::{config::ConfigCommand, key::KeyCommand, token::TokenCommand};
use super::{Invocation, environment::GivenSettings};

/// What to do instead of serving.
#[derive(Clone, Subcommand)]
pub(super) enum Command {
    /// Check a configuration file, or print the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create an API key, or a key that signs tickets
    #[command(subcommand)]
    Key(KeyCommand),
    /// Create a ticket, or report what a token grants
    Token(TokenCommand),
}

/// Runs a command.
pub(super) fn run(command: Command, given: &GivenSettings) -> Result<Invocation, clap::Error> {
    match command {
        Command::Config(command) => config::run(command, given),
        Command::Key(command) => key::run(&command),
        Command::Token(command) => token::run(command, given),
    }
}

#[cfg(test)]
mod tests;
