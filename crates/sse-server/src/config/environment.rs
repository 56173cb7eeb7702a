//! How flags, variables and the configuration file are read together.
//!
//! A flag overrides a variable, and a variable the file. An empty variable counts as unset, and a
//! mistyped one is reported.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use sse_cli::{environment, short_help::shorten_help};

use super::{
    bind_hint::add_bind_hint,
    cli::Args,
    file::{ConfigFile, FileAccess},
    flags_after_command::move_to_end,
};

/// The flags that a first user needs, which are those in `-h`.
pub(super) const SHORT_HELP: [&str; 9] = [
    "config",
    "bind",
    "allow-anonymous",
    "cors-origin",
    "data-dir",
    "memory",
    "redis-url",
    "history-age",
    "log",
];

/// The settings as they were given, and where each comes from.
pub(super) struct GivenSettings {
    pub(super) args: Args,
    pub(super) matches: ArgMatches,
    /// Empty if no configuration file is named.
    pub(super) file: ConfigFile,
    /// The rules of the file.
    pub(super) access: FileAccess,
    /// The grammar, with the values of the file as defaults.
    pub(super) command: Command,
    /// The command line.
    pub(super) arguments: Vec<OsString>,
}

/// Parses a command line, the environment, and the configuration file that one of them names.
///
/// # Errors
///
/// The help that was asked for, or what is wrong with which flag, variable or key.
pub(super) fn parse(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<GivenSettings, clap::Error> {
    let grammar = shorten_help(Args::command(), &SHORT_HELP).mut_args(ignore_empty_variable);
    let args = args.into_iter().map(Into::into).collect();
    let args = move_to_end(args, &grammar);
    let matches = grammar
        .clone()
        .try_get_matches_from(&args)
        .map_err(|error| add_bind_hint(error, &args))?;
    let file = match matches.get_one::<PathBuf>("config") {
        Some(path) => ConfigFile::read(path, &grammar).map_err(wrong_file)?,
        None => ConfigFile::default(),
    };
    parse_with(file, grammar, &args)
}

/// Reads a configuration file as if no flag and no variable were given.
///
/// # Errors
///
/// What is wrong with which key.
pub(super) fn parse_file(path: &Path) -> Result<GivenSettings, clap::Error> {
    let grammar = Args::command().mut_args(|flag| flag.env(None));
    let file = ConfigFile::read(path, &grammar).map_err(wrong_file)?;
    parse_with(file, grammar, &["sse-server".into()])
}

fn parse_with(
    file: ConfigFile,
    grammar: Command,
    args: &[OsString],
) -> Result<GivenSettings, clap::Error> {
    let mut command = file.apply(grammar);
    let matches = command.try_get_matches_from_mut(args)?;
    let arguments = args.to_vec();
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let access = file
        .read_access(args.network.public_url().as_deref())
        .map_err(wrong_file)?;
    Ok(GivenSettings {
        args,
        matches,
        file,
        access,
        command,
        arguments,
    })
}

/// Reads only the access rules of a file. The other settings must be valid too, because a file with
/// an error may be half-written.
///
/// # Errors
///
/// What is wrong, in which line.
pub(super) fn read_access(path: &Path, public_url: Option<&str>) -> Result<FileAccess, String> {
    let grammar = Args::command().mut_args(|flag| flag.env(None));
    ConfigFile::read(path, &grammar)?.read_access(public_url)
}

/// The error of a configuration file.
pub(super) fn wrong_file(message: impl fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"))
}

/// The error of settings that the grammar allows.
pub(super) fn misused(message: String) -> clap::Error {
    Args::command().error(ErrorKind::ValueValidation, message)
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
