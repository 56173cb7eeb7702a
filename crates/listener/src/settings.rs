//! Every setting of the listener, from the command line or the environment, checked once.
//!
//! A flag has an environment twin of the same name after `LISTENER_`; the flag wins.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Parser, ValueEnum, builder::NonEmptyStringValueParser};
use sse_proto::Channel;

use crate::{endpoint::StreamUrl, request};

const EXAMPLES: &str = "\
Exit codes:
  0  done: --count is reached, the server has no more (204), Ctrl-C, SIGTERM, a closed pipe
  1  failed: the server refused, or stdout or the record file cannot be written
  2  misused: a flag or an environment variable is wrong

Examples:
  listener
  listener --event click --event view --count 10
  listener --channel orders --format json | jq .data
  listener --last-event-id 1700000000000-0 --record got.ndjson
  listener --url 'https://example.org/live/stream?topic=news'";

/// Follows a Server-Sent Events stream and loses nothing when the connection breaks
///
/// Prints each event on stdout as it arrives, and nothing else there: what it has to say about the connection goes
/// to stderr. When the connection breaks it comes back with the last event id, so that the server goes on where it
/// stopped; when the server cannot, and says so by a `gap` event, the listener says so on stderr. It tries for ever,
/// waiting as long as the server asks (`retry`, 3s at first) and up to 30s after repeated failures.
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

/// How an event is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Two lines an event: `event: click ` and `data: …`
    Text,
    /// One JSON object a line, with the keys id, event and data
    Json,
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
    use clap::CommandFactory;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Settings, clap::Error> {
        Settings::try_parse_from([&["listener"], arguments].concat())
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
        ] {
            assert_eq!(parsed(&bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
