//! Variables of the environment: an empty one counts as unset, and a mistyped one is reported.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::cli::Args;

/// Parses a command line and the environment.
///
/// # Errors
///
/// The help that was asked for, or what is wrong with which flag or variable.
pub(super) fn parse(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(Args, ArgMatches), clap::Error> {
    let mut command = Args::command().mut_args(|arg| {
        // An empty variable counts as unset: a compose file leaves `SSE_REDIS_URL=` behind if its
        // own variable is missing.
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        if arg.get_env().is_some_and(is_empty) {
            arg.env(None)
        } else {
            arg
        }
    });
    let matches = command.try_get_matches_from_mut(args)?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((args, matches))
}

/// Returns the variables that begin with `SSE_` and are no setting, which are probably mistyped.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let command = Args::command();
    let known: Vec<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_env)
        .collect();
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter(|(name, _)| !known.contains(&name.as_os_str()))
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("SSE_"))
        .collect();
    unknown.sort();
    unknown
}
