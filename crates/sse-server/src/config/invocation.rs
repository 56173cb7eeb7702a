//! What the command line asks for: to serve, to check, or only to print.

use std::ffi::OsString;

use super::{Config, commands, environment};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve with these settings.
    Serve(Box<Config>),
    /// Print this text, and end with success.
    Print(String),
    /// Print this text, and end with exit code 1.
    Fail(String),
    /// Report what will cause trouble with these settings.
    Check {
        /// The settings.
        config: Box<Config>,
        /// The report is one JSON object.
        json: bool,
    },
}

impl Invocation {
    /// Reads a command line, the environment and the configuration file, and runs a command that
    /// only prints.
    ///
    /// # Errors
    ///
    /// The text to print and its exit code: help, or what is wrong and what to write instead.
    pub fn from_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut given = environment::parse(args)?;
        match given.args.command.take() {
            None => Ok(Self::Serve(Box::new(Config::from_given(given)?))),
            Some(command) => commands::run(command, given),
        }
    }
}
