//! Every setting of the listener, from the command line or the environment, checked once.
//!
//! A flag has an environment twin of the same name after `LISTENER_`; the flag wins.

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{
    CommandFactory, Parser, ValueEnum,
    builder::NonEmptyStringValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use reqwest::header::AUTHORIZATION;
use sse_proto::{
    Channel,
    units::{parse_positive_duration, parse_size},
};

use crate::{
    endpoint::StreamUrl,
    header::{Bearer, Header, Unquoted},
    request,
};

const EXAMPLES: &str = "\
Exit codes:
  0  done: --count is reached, the server has no more (204), Ctrl-C, SIGTERM, a closed pipe
  1  failed: the server refused, --max-retries were not enough, an event is larger than --max-event-size, or stdout
     or the record file cannot be written
  2  misused: a flag or an environment variable is wrong

Examples:
  listener
  listener --event click --event view --count 10
  listener --channel orders --format json | jq .data
  listener --last-event-id 1700000000000-0 --record got.ndjson
  LISTENER_BEARER=\"$(cat token)\" listener --url https://example.org/live/stream
  listener --url http://127.0.0.1:8000/ticks --header 'X-Api-Key: 123' --max-retries 5 --idle-timeout 2m
  listener --url 'https://example.org/live/stream?topic=news'";

/// Follows a Server-Sent Events stream and loses nothing when the connection breaks
///
/// Prints each event on stdout as it arrives, and nothing else there: what it has to say about the connection goes
/// to stderr. When the connection breaks it comes back with the last event id, so that the server goes on where it
/// stopped; when the server cannot, and says so by a `gap` event, the listener says so on stderr. It tries for ever
/// (or --max-retries times), waiting as long as the server asks (`retry`, 3s at first) and up to 30s after repeated failures.
#[derive(Debug, Clone, Parser)]
#[command(name = "listener", version, after_help = EXAMPLES)]
pub struct Settings {
    /// Where the stream is: http or https
    ///
    /// Without a path, /stream is meant. A query is sent as it is, with --channel and --event added to it. Proxies
    /// are taken from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, but never for this machine itself.
    // A URL may hold a password: help does not print the environment's.
    #[arg(long, env = "LISTENER_URL", hide_env_values = true, default_value = "http://127.0.0.1:5000")]
    #[arg(value_name = "URL")]
    pub url: StreamUrl,

    /// Send this as well: `Authorization: Bearer TOKEN`
    ///
    /// Give it by the variable rather than by the flag: every user of this machine can see a command line. It is never
    /// printed. It is sent to the scheme, host and port of --url only: a redirect to another one does not get it.
    #[arg(long, env = "LISTENER_BEARER", hide_env_values = true, value_name = "TOKEN")]
    #[arg(value_parser = Unquoted(Bearer::parse), allow_hyphen_values = true)]
    pub bearer: Option<Bearer>,

    /// Send this header as well, like 'X-Api-Key: 123'; may be repeated
    ///
    /// The variable holds one header. Accept, Accept-Encoding, Cache-Control, Last-Event-ID and the headers about the
    /// connection are set by the listener itself. Values are never printed, and like --bearer they are sent to the
    /// scheme, host and port of --url only. A secret is better kept in the variable than on the command line.
    #[arg(long = "header", env = "LISTENER_HEADER", hide_env_values = true, value_name = "NAME: VALUE")]
    #[arg(value_parser = Unquoted(Header::parse))]
    pub headers: Vec<Header>,

    /// Follow this channel
    ///
    /// Sent as the query parameter `channel`. Without it the server chooses; sse-server takes the channel `sse`.
    #[arg(long, env = "LISTENER_CHANNEL", value_name = "NAME")]
    pub channel: Option<Channel>,

    /// Get only events of this type; may be repeated
    ///
    /// Sent as query parameters `event`: the server filters. Several types may also be given at once, separated by
    /// commas. A `gap` event, by which the server says that events are missing, always comes through.
    #[arg(long = "event", env = "LISTENER_EVENT", value_name = "TYPE", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub events: Vec<String>,

    /// Begin right after the event with this id
    ///
    /// The `id` of the last event that you have, as --format json prints it. Without it the stream begins with what
    /// comes next. Either way the listener itself keeps the id from then on, as long as it runs.
    #[arg(long, env = "LISTENER_LAST_EVENT_ID", value_name = "ID", value_parser = sendable_id)]
    pub last_event_id: Option<String>,

    /// Take the connection for broken when nothing came for this long
    ///
    /// That finds a server that is gone without a word. It should be some heartbeats of the server; the default is
    /// three of sse-server's. It is also the time that the server has to begin its answer.
    #[arg(long, env = "LISTENER_IDLE_TIMEOUT", value_parser = parse_positive_duration, default_value = "45s")]
    #[arg(value_name = "DURATION", allow_negative_numbers = true)]
    pub idle_timeout: Duration,

    /// Give up after this many retries in a row; without it, try for ever
    ///
    /// With 0 there is one attempt only, and no coming back after a cut. An event, or a stream that was open for 5s,
    /// begins the count anew. A stream that ends before that counts as a failure.
    #[arg(long, env = "LISTENER_MAX_RETRIES", value_name = "N", allow_negative_numbers = true)]
    pub max_retries: Option<u64>,

    /// Fail on an event that is larger than this, like 512KiB or 16MiB
    ///
    /// It bounds the memory that a server can make the listener use.
    #[arg(long, env = "LISTENER_MAX_EVENT_SIZE", value_parser = parse_event_size, default_value = "16MiB")]
    #[arg(value_name = "SIZE", allow_negative_numbers = true)]
    pub max_event_size: usize,

    /// End after this many events
    ///
    /// `gap` events do not count.
    #[arg(long, env = "LISTENER_COUNT", value_name = "N")]
    pub count: Option<NonZeroU64>,

    /// How to print an event
    #[arg(long, env = "LISTENER_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Also write what was received to this file, one JSON object a line
    ///
    /// The file is emptied at the start. A line has the id, the type and the time of receipt of an event, and the
    /// publisher's stamp when the data carries one (`event-generator --record`); gaps have lines of their own. With
    /// the generator's record it shows what was lost.
    #[arg(long, env = "LISTENER_RECORD", value_name = "FILE")]
    pub record: Option<PathBuf>,
}

impl Settings {
    /// From these arguments (the first is the program's name) and the environment.
    ///
    /// # Errors
    /// What to print, with its exit code: help, or what is wrong and what to do.
    pub fn from_args(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let settings = Self::try_parse_from(arguments).map_err(without_stray_value)?;
        settings.check().map_err(|why| Self::command().error(ErrorKind::ArgumentConflict, why))?;
        Ok(settings)
    }

    /// A request has one `Authorization`, and which one is not for us to choose.
    fn check(&self) -> Result<(), String> {
        let headers = self.headers.iter().filter(|header| header.name == AUTHORIZATION).count();
        let header = ["--header authorization"].into_iter().cycle().take(headers);
        let bearer = self.bearer.iter().map(|_| "--bearer");
        let url = Some("the user in --url").filter(|_| self.url.has_user());
        let given: Vec<_> = bearer.chain(header).chain(url).collect();
        match given[..] {
            [one, other, ..] => Err(format!("{one} and {other} both set Authorization: give one of them")),
            _ => Ok(()),
        }
    }
}

/// How an event is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Two lines an event: `event: click ` and `data: …`
    Text,
    /// One JSON object a line, with the keys id, event and data
    Json,
}

/// The error without the value that stands where a flag should.
///
/// It may be a secret: in `--header X-Api-Key: 123` without quotes, the shell makes it a word of its own.
fn without_stray_value(error: clap::Error) -> clap::Error {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(stray)) if error.kind() == ErrorKind::UnknownArgument && !stray.starts_with('-') => {
            let why = "a value without a flag: give a URL by --url, and write a value that has spaces in quotes";
            Settings::command().error(ErrorKind::UnknownArgument, why)
        }
        _ => error,
    }
}

fn parse_event_size(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_size(text)?.as_u64()) {
        Ok(0) => Err("must be more than zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("is more than the memory of this machine can be".to_owned()),
    }
}

fn sendable_id(id: &str) -> Result<String, String> {
    if request::id_header(id).is_some() {
        Ok(id.to_owned())
    } else {
        Err("an event id has no control characters: it is sent as an HTTP header".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Settings, clap::Error> {
        Settings::from_args([&["listener"], arguments].concat())
    }

    #[test]
    fn the_definition_is_sound_and_every_flag_has_its_twin() {
        let command = Settings::command();
        command.clone().debug_assert();
        for flag in command.get_arguments() {
            let name = flag.get_long().expect("every setting is a flag");
            let twin = format!("LISTENER_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(twin.as_str()));
            assert!(flag.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn defaults_work_as_they_stand() {
        let settings = parsed(&[]).unwrap();
        assert_eq!(settings.url.to_string(), "http://127.0.0.1:5000/stream");
        assert_eq!(settings.format, Format::Text);
        assert!(settings.channel.is_none() && settings.events.is_empty() && settings.count.is_none());
        assert_eq!((settings.idle_timeout, settings.max_event_size), (Duration::from_secs(45), 16 << 20));
        assert!(settings.max_retries.is_none() && settings.headers.is_empty() && settings.bearer.is_none());
    }

    #[test]
    fn types_come_one_by_one_or_with_commas() {
        assert_eq!(parsed(&["--event", "a b,c", "--event", "d"]).unwrap().events, ["a b", "c", "d"]);
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
            &["--header", "Authorization: a", "--header", "authorization: b"],
            &["--bearer", "t", "--url", "http://user@h"],
        ] {
            let error = parsed(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            assert!(error.to_string().contains("both set Authorization"), "{error}");
        }
        assert!(parsed(&["--bearer", "-t", "--header", "X-A: b"]).is_ok());
        assert!(parsed(&["--header", "Authorization: Basic x"]).is_ok());
    }
}
