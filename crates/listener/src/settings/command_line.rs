//! The command line: `listener`, `listener bench` and `listener --completions`.

use std::ffi::OsString;

use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;
use sse_cli::secret::rejects_stray_value;

use super::{follow::FollowSettings, load::LoadSettings};

const STRAY: &str =
    "a value without a flag: give a URL by --url, and write a value that has spaces in quotes";

const EXAMPLES: &str = "\
Exit codes:
  0  done: --count is reached, the server has no more (204), Ctrl-C, SIGTERM, a closed pipe
  1  failed: the server refused, --max-retries were not enough, an event is larger than --max-event-size, or stdout,
     the record file or the state file cannot be written
  2  misused: a flag or an environment variable is wrong

Examples:
  The stream of a server on this machine; two types of events, ten of them; one channel as JSON:
    listener
    listener --event click --event view --count 10
    listener --channel orders --format json | jq .data
  What was published in the last ten minutes, and what comes next; on after an event that you have:
    listener --since 10m
    listener --last-event-id 1700000000000-0 --record got.ndjson
  Go on where it stopped, also after a restart or a crash; two nodes of one system:
    listener --state orders.state --format json | ./process
    listener --url http://10.0.0.1:5000 --url http://10.0.0.2:5000
  Other servers: a token, a header, a request with a body, what really comes:
    LISTENER_BEARER=\"$(cat token)\" listener --url https://example.org/live/stream
    listener --url http://127.0.0.1:8000/ticks --header 'X-Api-Key: 123' --max-retries 5 --idle-timeout 2m
    listener --url https://example.org/v1/answers --body '{\"stream\": true}' --format data
    listener --url 'https://example.org/live/stream?topic=news' --format raw";

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Follow a stream.
    Follow(Box<FollowSettings>),
    /// Print the completions for a shell.
    Completions(Shell),
    /// Open very many streams.
    Load(Box<LoadSettings>),
}

/// Follows a Server-Sent Events stream and loses nothing when the connection breaks
///
/// Prints each event on stdout as it arrives, and nothing else there: what it has to say about the connection goes
/// to stderr. When the connection breaks it comes back with the last event id, so that the server goes on where it
/// stopped; when the server cannot, and says so by a `gap` event, the listener says so on stderr. It tries for ever
/// (or --max-retries times), waiting as long as the server asks (`retry`, 3s at first) and up to 30s after repeated failures.
#[derive(Debug, Parser)]
#[command(name = "listener", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    follow: FollowSettings,

    /// Print completions for this shell, and do nothing else
    ///
    /// For example, for bash: listener --completions bash > ~/.local/share/bash-completion/completions/listener
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    #[command(subcommand)]
    subcommand: Option<Subcommand>,
}

/// What else the listener can do.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    #[command(name = "bench")]
    Load(Box<LoadSettings>),
}

impl Invocation {
    /// From these arguments (the first is the program's name) and the environment.
    ///
    /// # Errors
    /// What to print, with its exit code: help, or what is wrong and what to do.
    pub fn from_args(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let line = CommandLine::try_parse_from(arguments).map_err(without_stray_value)?;
        if let Some(shell) = line.completions {
            return Ok(Self::Completions(shell));
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

/// The command line's definition, from which completions are made.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// The error without the value that stands where a flag or `bench` should.
///
/// It may be a secret: in `--header X-Api-Key: 123` without quotes, the shell makes it a word of its own.
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

    use super::*;
    use crate::settings::follow::Format;

    fn parsed(arguments: &[&str]) -> Result<FollowSettings, clap::Error> {
        match Invocation::from_args([&["listener"], arguments].concat())? {
            Invocation::Follow(settings) => Ok(*settings),
            Invocation::Load(_) => panic!("bench"),
            Invocation::Completions(shell) => panic!("completions for {shell}"),
        }
    }

    #[test]
    fn the_definition_is_sound_and_every_flag_has_its_twin() {
        let command = command();
        command.clone().debug_assert();
        for flag in command
            .get_arguments()
            .filter(|flag| flag.get_long() != Some("completions"))
        {
            let name = flag.get_long().expect("every setting is a flag");
            let twin = format!("LISTENER_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(twin.as_str())
            );
            assert!(flag.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn the_readme_lists_every_flag() {
        let readme = include_str!("../../README.md");
        let command = command();
        let bench = command.find_subcommand("bench").expect("a subcommand");
        for flag in command
            .get_arguments()
            .chain(bench.get_arguments())
            .filter_map(clap::Arg::get_long)
        {
            assert!(
                readme.contains(&format!("`--{flag}`")),
                "README.md does not list --{flag}"
            );
        }
    }

    #[test]
    fn defaults_work_as_they_stand() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(
            settings.target.urls[0].to_string(),
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
    fn types_come_one_by_one_or_with_commas() {
        assert_eq!(
            parsed(&["--event", "a b,c", "--event", "d"])
                .unwrap()
                .target
                .events,
            ["a b", "c", "d"]
        );
    }

    #[test]
    fn what_cannot_work_is_misuse() {
        for bad in [
            ["--url", "ftp://example.org"],
            ["--channel", "a b"],
            ["--event", ""],
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
    fn only_one_may_set_authorization() {
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
