//! Settings of a run: the command line and its environment variables, read and validated.
//!
//! Every mistake is reported here, before anything is sent, with exit code 2. [`flags`] declares
//! the settings, [`values`] parses their values, [`validate`] checks their combinations, and
//! [`build`] makes the parts of a run.

mod build;
pub(crate) mod completions;
mod flags;
mod help;
mod validate;
mod values;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use sse_cli::{environment, secret::rejects_stray_value, short_help::shorten_help};

pub(crate) use self::flags::Settings;

impl Settings {
    /// Parses a command line and the environment.
    ///
    /// # Errors
    ///
    /// A setting is wrong, or the user asks for help. The message contains no secret.
    pub(crate) fn from_args(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let settings = parse(arguments).map_err(without_stray_value)?;
        match settings.validate() {
            Ok(()) => Ok(settings),
            Err(why) => Err(Self::command().error(ErrorKind::ArgumentConflict, why)),
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, clap::Error> {
    let mut command = shorten_help(Settings::command(), &help::SHORT_HELP);
    let matches = command.try_get_matches_from_mut(arguments)?;
    Settings::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Returns the variables that begin with `GENERATOR_` and are no setting, which are probably
/// mistyped.
pub(crate) fn unknown_variables() -> Vec<String> {
    environment::unknown_variables(&Settings::command(), "GENERATOR_")
}

/// Replaces the message of clap about a value without a flag, which would quote the value.
fn without_stray_value(error: clap::Error) -> clap::Error {
    if rejects_stray_value(&error) {
        let why = "a value without a flag: set the server with --url, and put quotes around a value \
                   that has spaces";
        Settings::command().error(ErrorKind::UnknownArgument, why)
    } else {
        error
    }
}

#[cfg(test)]
mod tests;
