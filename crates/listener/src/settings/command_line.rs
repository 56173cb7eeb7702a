//! The command line: `listener`, `listener bench` and `listener --completions`.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;
use sse_cli::{secret::rejects_stray_value, short_help::shorten_help};

use super::{follow::FollowSettings, load::LoadSettings, load_help};

const STRAY: &str =
    "a value without a flag: give a URL by --url, and put a value that contains spaces in quotes";

const EXAMPLES: &str = "\
Exit codes:
  0  success: --count is reached, the stream has ended for good (204), Ctrl-C, SIGTERM, a closed pipe
  1  failure: the server rejected the request, --max-retries is exceeded, an event is larger than --max-event-size,
     or stdout, the record file or the state file cannot be written
  2  misuse: a flag or an environment variable is wrong

Examples:
  The stream of a server on this machine; ten events of two types; one channel as JSON:
    listener
    listener --event click --event view --count 10
    listener --channel orders --format json | jq .data
  The events of the last ten minutes and all later ones; the events after one that you have:
    listener --since 10m
    listener --last-event-id 1700000000000-0 --record got.ndjson
  Resume where the last run stopped, even after a crash; two nodes of one system:
    listener --state orders.state --format json | ./process
    listener --url http://10.0.0.1:5000 --url http://10.0.0.2:5000
  Other servers: a token, a header, a request with a body, the bytes as received:
    LISTENER_BEARER=\"$(cat token)\" listener --url https://example.org/live/stream
    listener --url http://127.0.0.1:8000/ticks --header 'X-Api-Key: 123' --max-retries 5 --idle-timeout 2m
    listener --url https://example.org/v1/answers --body '{\"stream\": true}' --format data
    listener --url 'https://example.org/live/stream?topic=news' --format raw";

const SHORT_EXAMPLES: &str = "\
Exit codes: 0 success, 1 failure, 2 misuse. --help explains all flags, with more examples.

Examples:
  The stream of a server on this machine; ten events of two types; one channel as JSON:
    listener
    listener --event click --event view --count 10
    listener --channel orders --format json";

/// The flags that a first user needs, which are those in `-h`.
const SHORT_HELP: [&str; 9] = [
    "url",
    "bearer",
    "channel",
    "event",
    "last-event-id",
    "since",
    "state",
    "count",
    "format",
];

/// A parsed command line.
#[derive(Debug)]
pub enum Invocation {
    /// Follow a stream.
    Follow(Box<FollowSettings>),
    /// Print the completions for a shell.
    Completions(Shell),
    /// Write the man pages to a directory.
    ManPages(PathBuf),
    /// Run a load test.
    Load(Box<LoadSettings>),
}

/// Follows a Server-Sent Events stream and loses nothing when the connection breaks
///
/// The listener prints each event on stdout as it arrives, and messages about the connection on
/// stderr. When the connection breaks, the listener reconnects with the last event id, and the
/// server continues after that event. If the server cannot continue there, it sends a `gap` event,
/// which the listener reports on stderr.
///
/// The listener retries forever, or --max-retries times. It waits as long as the server asks
/// (`retry`, by default 3s), and up to 30s after repeated failures.
#[derive(Debug, Parser)]
#[command(name = "listener", version, args_conflicts_with_subcommands = true)]
#[command(after_help = SHORT_EXAMPLES, after_long_help = EXAMPLES)]
struct CommandLine {
    #[command(flatten)]
    follow: FollowSettings,

    /// Print completions for this shell and exit
    ///
    /// For example, for bash: listener --completions bash >
    /// ~/.local/share/bash-completion/completions/listener
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    /// Write the man pages to this directory and exit
    #[arg(long, value_name = "DIRECTORY", exclusive = true)]
    man: Option<PathBuf>,

    #[command(subcommand)]
    subcommand: Option<Subcommand>,
}

/// Other commands.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    #[command(name = "bench")]
    Load(Box<LoadSettings>),
}

impl Invocation {
    /// Parses the arguments, of which the first is the program's name, and the environment.
    ///
    /// # Errors
    /// The text to print, with its exit code: help, or a description of the misuse.
    pub fn from_args(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let line = parse(arguments).map_err(without_stray_value)?;
        if let Some(shell) = line.completions {
            return Ok(Self::Completions(shell));
        }
        if let Some(directory) = line.man {
            return Ok(Self::ManPages(directory));
        }
        if let Some(Subcommand::Load(load)) = line.subcommand {
            load.check()
                .map_err(|why| command().error(ErrorKind::ArgumentConflict, why))?;
            return Ok(Self::Load(load));
        }
        line.follow
            .check()
            .map_err(|why| command().error(ErrorKind::ArgumentConflict, why))?;
        Ok(Self::Follow(Box::new(line.follow)))
    }
}

fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<CommandLine, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The definition of the command line, from which completions are generated.
#[must_use]
pub fn command() -> clap::Command {
    shorten_help(CommandLine::command(), &SHORT_HELP)
        .mut_subcommand("bench", |bench| shorten_help(bench, &load_help::SHORT_HELP))
}

/// Removes a value in the place of a flag or of `bench` from an error.
///
/// The value can be a secret: without quotes, the shell makes `123` in `--header X-Api-Key: 123` a
/// word of its own.
fn without_stray_value(error: clap::Error) -> clap::Error {
    let why = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word))
            if error.kind() == ErrorKind::ArgumentConflict && word == "bench" =>
        {
            "write bench first: listener bench --url …"
        }
        Some(ContextValue::String(_)) => STRAY,
        _ if rejects_stray_value(&error) => STRAY,
        _ => return error,
    };
    command().error(error.kind(), why)
}

/// The settings of a test that follows a stream with these arguments.
#[cfg(test)]
pub(crate) fn follow_settings(arguments: &[&str]) -> FollowSettings {
    match Invocation::from_args([&["listener"], arguments].concat()) {
        Ok(Invocation::Follow(settings)) => *settings,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sse_cli::short_help::missing_flags;

    use super::*;
    use crate::settings::follow::Format;

    fn parsed(arguments: &[&str]) -> Result<FollowSettings, clap::Error> {
        match Invocation::from_args([&["listener"], arguments].concat())? {
            Invocation::Follow(settings) => Ok(*settings),
            Invocation::Load(_) => panic!("bench"),
            Invocation::Completions(_) | Invocation::ManPages(_) => panic!("other output"),
        }
    }

    #[test]
    fn every_flag_has_a_help_text_and_an_environment_variable() {
        let command = command();
        command.clone().debug_assert();
        for flag in command
            .get_arguments()
            .filter(|flag| !matches!(flag.get_long(), Some("completions" | "man")))
        {
            let name = flag.get_long().expect("every setting is a flag");
            let variable = format!("LISTENER_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(variable.as_str())
            );
            assert!(flag.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn the_short_help_names_flags() {
        let command = command();
        let bench = command.find_subcommand("bench").expect("a subcommand");
        for missing in [
            missing_flags(&command, &SHORT_HELP),
            missing_flags(bench, &load_help::SHORT_HELP),
        ] {
            assert_eq!(missing, Vec::<&str>::new());
        }
    }

    #[test]
    fn the_docs_list_every_flag() {
        let docs = concat!(
            include_str!("../../../../docs/tools/listener.md"),
            include_str!("../../../../docs/tools/load-testing.md"),
        );
        let command = command();
        let bench = command.find_subcommand("bench").expect("a subcommand");
        for flag in command
            .get_arguments()
            .chain(bench.get_arguments())
            .filter_map(clap::Arg::get_long)
        {
            assert!(
                docs.contains(&format!("`--{flag}`")),
                "docs/tools does not list --{flag}"
            );
        }
    }

    #[test]
    fn the_defaults_follow_the_stream_of_this_machine() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(
            settings.target.first_url().to_string(),
            "http://127.0.0.1:5000/stream"
        );
        assert_eq!(settings.format, Format::Text);
        assert!(
            settings.target.channels.is_empty()
                && settings.target.events.is_empty()
                && settings.count.is_none()
        );
        assert_eq!(
            (settings.idle_timeout, settings.max_event_size),
            (Duration::from_secs(45), 16 << 20)
        );
        assert!(
            settings.max_retries.is_none()
                && settings.target.headers.is_empty()
                && settings.target.bearer.is_none()
        );
    }

    #[test]
    fn event_types_are_given_one_by_one_or_with_commas() {
        assert_eq!(
            parsed(&["--event", "a b,c", "--event", "d"])
                .unwrap()
                .target
                .events,
            ["a b", "c", "d"]
        );
    }

    #[test]
    fn wrong_values_are_misuse() {
        for bad in [
            ["--url", "ftp://example.org"],
            ["--channel", "a b"],
            ["--event", ""],
            ["--url", "http://h/s?channel=a b"],
            ["--retry-status", "200"],
            ["--retry-status", "404,no"],
            ["--retry-status", "600"],
            ["--cacert", "/absent"],
            ["--last-event-id", "a\nb"],
            ["--count", "0"],
            ["--format", "xml"],
            ["--idle-timeout", "45"],
            ["--idle-timeout", "0s"],
            ["--max-event-size", "0"],
            ["--max-event-size", "large"],
            ["--max-retries", "-1"],
            ["--header", "no colon"],
            ["--header", "Accept: text/html"],
            ["--bearer", "a b"],
        ] {
            assert_eq!(parsed(&bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
    #[test]
    fn only_one_setting_may_set_authorization() {
        for bad in [
            &["--bearer", "t", "--header", "authorization: Basic x"][..],
            &[
                "--header",
                "Authorization: a",
                "--header",
                "authorization: b",
            ],
            &["--bearer", "t", "--url", "http://user@h"],
        ] {
            let error = parsed(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            assert!(
                error.to_string().contains("both set Authorization"),
                "{error}"
            );
        }
        assert!(parsed(&["--bearer", "-t", "--header", "X-A: b"]).is_ok());
        assert!(parsed(&["--header", "Authorization: Basic x"]).is_ok());
    }
}
