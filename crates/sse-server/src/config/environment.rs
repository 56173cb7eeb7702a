//! Variables of the environment: an empty one counts as unset, and a mistyped one is reported.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgMatches, CommandFactory as _, FromArgMatches as _};
use sse_cli::{environment, short_help::shorten_help};

use super::{bind_hint::add_bind_hint, cli::Args};

/// The flags that a first user needs, which are those in `-h`.
pub(super) const SHORT_HELP: [&str; 8] = [
    "bind",
    "allow-anonymous",
    "cors-origin",
    "data-dir",
    "memory",
    "redis-url",
    "history-age",
    "log",
];

/// Parses a command line and the environment.
///
/// # Errors
///
/// The help that was asked for, or what is wrong with which flag or variable.
pub(super) fn parse(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(Args, ArgMatches), clap::Error> {
    let mut command = shorten_help(Args::command(), &SHORT_HELP).mut_args(ignore_empty_variable);
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let matches = command
        .try_get_matches_from_mut(&args)
        .map_err(|error| add_bind_hint(error, &args))?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((args, matches))
}

/// An empty variable counts as unset: a compose file leaves `SSE_REDIS_URL=` behind if its own
/// variable is missing.
fn ignore_empty_variable(arg: Arg) -> Arg {
    if arg.get_env().is_some_and(is_empty_variable) {
        arg.env(None)
    } else {
        arg
    }
}

fn is_empty_variable(name: &OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Returns the variables that begin with `SSE_` and are no setting, which are probably mistyped.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    environment::unknown_variables(&Args::command(), "SSE_")
}
