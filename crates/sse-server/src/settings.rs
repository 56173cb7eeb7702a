//! Every setting: a flag, an `SSE_…` variable of the same name, a default that works. All are checked before anything
//! is opened or bound.

use std::{
    ffi::OsString,
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, error::ErrorKind, parser::ValueSource,
};
use sse_cli::{loopback::is_loopback_ip, switch::parse_switch};
use sse_proto::units::{parse_duration, parse_positive_duration, parse_size};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    broker::redis::{parse_prefix, without_password},
    http::Origins,
};

const AFTER_HELP: &str = "\
Examples:
  sse-server                                        events are kept in ./sse-data
  sse-server --memory --bind 127.0.0.1:0            nothing is kept, on any free port
  sse-server --redis-url redis://localhost          one of many nodes on a Redis

  curl -d '' http://127.0.0.1:5000/event/click      publish
  curl -N http://127.0.0.1:5000/stream              subscribe

Every flag can be given as a variable: --history-age as SSE_HISTORY_AGE. REDIS_URL counts as --redis-url when
neither a flag nor an SSE_ variable chooses a broker.

Exit codes: 0 stopped by a signal, 1 failed, 2 misused.";

/// More fan-out threads than any machine has use for.
const THREADS_MAX: usize = 256;
const COALESCE_MAX: Duration = Duration::from_millis(100);

/// Takes events over HTTP and sends them to any number of readers over Server-Sent Events. Loses nothing.
#[derive(Debug, Clone, Parser)]
#[command(name = "sse-server", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Settings {
    /// Listen on this address
    ///
    /// Port 0 takes a free port and prints its URL on stdout. An address beyond this machine needs --allow-anonymous,
    /// because there is no authentication yet.
    #[arg(long, env = "SSE_BIND", default_value = "127.0.0.1:5000", value_name = "ADDRESS:PORT", value_parser = parse_address)]
    pub bind: SocketAddr,

    /// Let anybody who reaches the address publish and read
    #[arg(long, env = "SSE_ALLOW_ANONYMOUS", value_parser = parse_switch)]
    pub allow_anonymous: bool,

    /// Let pages of this origin read and publish (repeatable, or * for all; comma-separated in the variable)
    ///
    /// Without it there are no CORS headers, and a publish by another site's page is refused.
    #[arg(long = "cors-origin", env = "SSE_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origins: Vec<String>,

    /// Keep the log in this directory
    #[arg(
        long,
        env = "SSE_DATA_DIR",
        default_value = "./sse-data",
        value_name = "DIRECTORY",
        help_heading = "Broker"
    )]
    pub data_dir: PathBuf,

    /// Keep the log in memory only
    #[arg(long, env = "SSE_MEMORY", value_parser = parse_switch, help_heading = "Broker")]
    pub memory: bool,

    /// Keep the log in this Redis (6.2 or later), which many nodes can share
    #[arg(
        long,
        env = "SSE_REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Broker"
    )]
    pub redis_url: Option<String>,

    /// Begin the names of all keys in Redis with this: systems with different prefixes do not see each other
    ///
    /// Up to 64 characters of A-Z a-z 0-9 . _ : ~ -
    #[arg(long, env = "SSE_REDIS_PREFIX", default_value = "sse:", value_name = "PREFIX", value_parser = parse_prefix, help_heading = "Broker")]
    pub redis_prefix: String,

    /// Give up on an answer of Redis after this time: publishing answers 503 then
    ///
    /// A publish has this time for all that it asks of Redis.
    #[arg(long, env = "SSE_REDIS_TIMEOUT", default_value = "2s", value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Broker")]
    pub redis_timeout: Duration,

    /// Keep this many of a channel's newest events; older ones are trimmed
    #[arg(
        long,
        env = "SSE_HISTORY_EVENTS",
        default_value = "100000",
        value_name = "EVENTS",
        help_heading = "History"
    )]
    pub history_events: NonZeroUsize,

    /// Keep events for this time; the newest event of a channel stays
    #[arg(long, env = "SSE_HISTORY_AGE", default_value = "24h", value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "History")]
    pub history_age: Duration,

    /// Keep this many bytes of all channels together; the oldest events beyond are trimmed
    ///
    /// Over Redis its own maxmemory is the limit.
    #[arg(long, env = "SSE_HISTORY_BYTES", default_value = "1GiB", value_name = "SIZE", value_parser = parse_size, help_heading = "History")]
    pub history_bytes: ByteSize,

    /// Have at most this many channels
    ///
    /// A publish to one more is refused (507), unless a channel whose events are all too old can be forgotten for it;
    /// over Redis, which forgets in rounds, this takes up to a minute.
    #[arg(
        long,
        env = "SSE_CHANNELS_MAX",
        default_value = "10000",
        value_name = "CHANNELS",
        help_heading = "History"
    )]
    pub channels_max: NonZeroUsize,

    /// Keep this much of the disk free: below it publishing is refused (507), and trimming goes on
    #[arg(long, env = "SSE_DISK_RESERVE", default_value = "64MiB", value_name = "SIZE", value_parser = parse_size, help_heading = "History")]
    pub disk_reserve: ByteSize,

    /// Refuse an event with more data than this (413)
    #[arg(long, env = "SSE_EVENT_BYTES_MAX", default_value = "1MiB", value_name = "SIZE", value_parser = parse_size, help_heading = "Publishing")]
    pub event_bytes_max: ByteSize,

    /// Refuse a batch with a larger body than this (413)
    #[arg(long, env = "SSE_BATCH_BYTES_MAX", default_value = "16MiB", value_name = "SIZE", value_parser = parse_size, help_heading = "Publishing")]
    pub batch_bytes_max: ByteSize,

    /// Refuse a batch with more events than this (413)
    #[arg(
        long,
        env = "SSE_BATCH_EVENTS_MAX",
        default_value = "10000",
        value_name = "EVENTS",
        help_heading = "Publishing"
    )]
    pub batch_events_max: NonZeroUsize,

    /// Hold at most this much of the bodies of publishes that are under way
    ///
    /// A body waits for others to finish, up to 5 s; then it is refused (503).
    #[arg(long, env = "SSE_PUBLISH_MEMORY", default_value = "256MiB", value_name = "SIZE", value_parser = parse_size, help_heading = "Publishing")]
    pub publish_memory: ByteSize,

    /// Know the Idempotency-Key of a publish for this time
    ///
    /// A publish that comes again with its key within it is answered with its first id, and adds nothing. A key keeps the
    /// time that it got when it came, also across a restart.
    #[arg(long, env = "SSE_IDEMPOTENCY_WINDOW", default_value = "10m", value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Publishing")]
    pub idempotency_window: Duration,

    /// Know at most this many keys of a channel
    ///
    /// A publish with one more is refused (503) until one expires; without a key it is taken. So a channel takes
    /// this many in each window: with the defaults, 1666 a second all the time. A batch needs only one. Each costs about
    /// 180 bytes, on disk or in Redis' memory.
    #[arg(
        long,
        env = "SSE_IDEMPOTENCY_KEYS",
        default_value = "1000000",
        value_name = "KEYS",
        help_heading = "Publishing"
    )]
    pub idempotency_keys: NonZeroUsize,

    /// Keep this many of a channel's newest events in memory
    ///
    /// Subscribers inside this tail are served without touching the log; one that falls behind it is served from
    /// history until it has caught up. An event costs its frame, once, not per subscriber (and once more if somebody
    /// wants envelopes). Only channels that somebody listens to have a tail.
    #[arg(
        long,
        env = "SSE_TAIL_EVENTS",
        default_value = "1024",
        value_name = "EVENTS",
        help_heading = "Streams"
    )]
    pub tail_events: NonZeroUsize,

    /// Keep at most this many bytes of a channel's newest events in memory
    #[arg(long, env = "SSE_TAIL_BYTES", default_value = "8MiB", value_name = "SIZE", value_parser = parse_size, help_heading = "Streams")]
    pub tail_bytes: ByteSize,

    /// Send a comment on a stream that was silent for this time, so that no proxy takes it for dead
    #[arg(long, env = "SSE_HEARTBEAT", default_value = "15s", value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Streams")]
    pub heartbeat: Duration,

    /// Tell subscribers to wait this long before they reconnect
    #[arg(long, env = "SSE_RETRY", default_value = "3s", value_name = "DURATION", value_parser = parse_duration, help_heading = "Streams")]
    pub retry: Duration,

    /// Have at most this many streams open [default: nine tenths of the open files that the system allows]
    ///
    /// One more is answered with a stream that ends at once and says when to come back, which browsers do. (They
    /// would never come back after an error.) When a tenth more come at a time, their connections are closed instead.
    #[arg(
        long,
        env = "SSE_STREAMS_MAX",
        value_name = "STREAMS",
        help_heading = "Streams"
    )]
    pub streams_max: Option<NonZeroUsize>,

    /// Close a stream whose client took nothing for this time, although there was something for it
    ///
    /// It comes back with its last event id and loses nothing. A client that may still be reading what it was given has
    /// longer: as long as that takes at 1 KB/s, four and a half minutes at the most.
    #[arg(long, env = "SSE_WRITE_TIMEOUT", default_value = "60s", value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Streams")]
    pub write_timeout: Duration,

    /// Write to streams with this many threads [default: half the cores, at least 1]
    ///
    /// With 0 streams stay with the threads that answer HTTP: each takes some 12 KB more, and a large crowd slows
    /// publishing.
    #[arg(long, env = "SSE_FANOUT_THREADS", value_name = "THREADS", value_parser = parse_threads, help_heading = "Streams")]
    pub fanout_threads: Option<usize>,

    /// While a channel is busy, collect its events for this time (0 to 100ms) and send them as one piece
    ///
    /// The first event after a pause leaves at once. Higher rates need fewer writes, and so less CPU, the longer it is.
    #[arg(long, env = "SSE_COALESCE", default_value = "5ms", value_name = "DURATION", value_parser = parse_coalesce, help_heading = "Streams")]
    pub coalesce: Duration,

    /// Log on stderr from this level on: error, warn, info, debug, trace, or a filter like `info,sse_server=debug`
    #[arg(long, env = "SSE_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,

    /// Which broker it is, and what chose it; found out by [`Settings::from_args`].
    #[arg(skip)]
    pub broker: BrokerChoice,
}

/// The broker that the settings choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BrokerKind {
    /// The embedded log in `--data-dir`.
    #[default]
    Directory,
    /// The embedded log in memory.
    Memory,
    /// Redis at this URL.
    Redis(String),
}

/// A broker and what chose it, for the first line of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerChoice {
    /// The broker.
    pub kind: BrokerKind,
    /// A flag, a variable, or `the default`.
    pub chosen_by: String,
}

impl Settings {
    /// Reads the settings from a command line and the environment.
    ///
    /// # Errors
    /// What to print, with its exit code: help, or what is wrong and what to do.
    pub fn from_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command().mut_args(|arg| {
            // As a compose file leaves them: an empty variable is none.
            let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            if arg.get_env().is_some_and(is_empty) {
                arg.env(None)
            } else {
                arg
            }
        });
        let matches = command.try_get_matches_from_mut(args)?;
        let mut settings =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let redis_url = std::env::var("REDIS_URL")
            .ok()
            .filter(|url| !url.is_empty());
        let misused = |why: String| Self::command().error(ErrorKind::ValueValidation, why);
        settings.broker = choose_broker(&settings, &matches, redis_url).map_err(misused)?;
        settings.check().map_err(misused)?;
        Ok(settings)
    }

    /// The origins that may read and publish.
    #[must_use]
    pub fn origins(&self) -> Origins {
        Origins::new(&self.cors_origins)
    }

    fn check(&self) -> Result<(), String> {
        if !is_loopback_ip(self.bind.ip()) && !self.allow_anonymous {
            return Err(format!(
                "--bind {} can be reached from other machines, and there is no authentication yet: anybody could \
                 publish and read. Use 127.0.0.1 behind a proxy that authenticates, or say --allow-anonymous",
                self.bind
            ));
        }
        for (small, small_size, large, large_size) in [
            (
                "--event-bytes-max",
                self.event_bytes_max,
                "--batch-bytes-max",
                self.batch_bytes_max,
            ),
            (
                "--batch-bytes-max",
                self.batch_bytes_max,
                "--publish-memory",
                self.publish_memory,
            ),
        ] {
            if small_size > large_size {
                return Err(format!(
                    "{small} {small_size} is more than {large} {large_size}: one would never fit"
                ));
            }
        }
        if self.event_bytes_max.0 == 0 {
            return Err("--event-bytes-max must be more than zero".to_owned());
        }
        if self.publish_memory > ByteSize::tib(1) {
            return Err("--publish-memory must be less than 1TiB".to_owned());
        }
        if self.idempotency_window > Duration::from_hours(365 * 24) {
            return Err("--idempotency-window must be at most 365d".to_owned());
        }
        // A word alone would be taken for a part of the program, and nothing would be logged.
        let is_level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
        if !self.log.split(',').all(is_level) || EnvFilter::try_new(&self.log).is_err() {
            return Err(format!(
                "--log {:?} is not a level: use error, warn, info, debug or trace",
                self.log
            ));
        }
        if self.history_bytes.0 == 0 {
            return Err("--history-bytes must be more than zero: nothing would be kept".to_owned());
        }
        if let BrokerKind::Redis(url) = &self.broker.kind
            && redis::Client::open(url.as_str()).is_err()
        {
            return Err(format!(
                "{:?} is not a Redis URL: write redis://[user:password@]host[:port][/database]",
                without_password(url)
            ));
        }
        Ok(())
    }
}

/// A flag beats an `SSE_` variable, which beats `REDIS_URL`; two of one rank contradict each other.
fn choose_broker(
    settings: &Settings,
    matches: &ArgMatches,
    redis_url: Option<String>,
) -> Result<BrokerChoice, String> {
    let redis = |url: &Option<String>| BrokerKind::Redis(url.clone().unwrap_or_default());
    let accepted = [
        (
            "data_dir",
            "--data-dir",
            "SSE_DATA_DIR",
            true,
            BrokerKind::Directory,
        ),
        (
            "memory",
            "--memory",
            "SSE_MEMORY",
            settings.memory,
            BrokerKind::Memory,
        ),
        (
            "redis_url",
            "--redis-url",
            "SSE_REDIS_URL",
            settings.redis_url.is_some(),
            redis(&settings.redis_url),
        ),
    ];
    for source in [ValueSource::CommandLine, ValueSource::EnvVariable] {
        let from_flag = source == ValueSource::CommandLine;
        let mut chosen = accepted
            .iter()
            .filter(|(id, _, _, on, _)| *on && matches.value_source(id) == Some(source));
        if let Some((_, flag, variable, _, kind)) = chosen.next() {
            let name = |flag: &str, variable: &str| {
                if from_flag {
                    flag.to_owned()
                } else {
                    variable.to_owned()
                }
            };
            if let Some((_, other_flag, other_variable, ..)) = chosen.next() {
                let (one, other) = (name(flag, variable), name(other_flag, other_variable));
                return Err(format!(
                    "{one} and {other} choose different brokers: give one of them"
                ));
            }
            return Ok(BrokerChoice {
                kind: kind.clone(),
                chosen_by: name(flag, variable),
            });
        }
    }
    Ok(match redis_url {
        Some(url) => BrokerChoice {
            kind: BrokerKind::Redis(url),
            chosen_by: "REDIS_URL".to_owned(),
        },
        None => BrokerChoice {
            kind: BrokerKind::Directory,
            chosen_by: "the default".to_owned(),
        },
    })
}

/// Variables that look like ours and are none: mistyped, most likely.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let command = Settings::command();
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

fn parse_threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|threads| *threads <= THREADS_MAX)
        .ok_or_else(|| format!("write a number from 0 to {THREADS_MAX}"))
}

fn parse_coalesce(text: &str) -> Result<Duration, String> {
    // "0" alone has no unit, and needs none.
    let duration = if text == "0" {
        Duration::ZERO
    } else {
        parse_duration(text)?
    };
    if duration > COALESCE_MAX {
        return Err("write a time from 0 to 100ms: events wait for it".to_owned());
    }
    Ok(duration)
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|_| {
        format!("{text:?} is not an address and a port: write 127.0.0.1:5000, [::1]:5000 or localhost:5000")
    })?;
    addresses
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

fn parse_origin(text: &str) -> Result<String, String> {
    let parsed = url::Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    match parsed {
        _ if text == "*" => Ok(text.to_owned()),
        Some(url) if url.origin().ascii_serialization() == text => Ok(text.to_owned()),
        Some(url) => Err(format!(
            "an origin has no path: write {}",
            url.origin().ascii_serialization()
        )),
        None => Err("write an origin like https://app.example, or *".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        Settings::from_args([&["sse-server"], args].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn the_readme_lists_every_flag() {
        let readme = include_str!("../../../README.md");
        for flag in Settings::command()
            .get_arguments()
            .filter_map(clap::Arg::get_long)
        {
            assert!(
                readme.contains(&format!("`--{flag}`")),
                "README.md does not list --{flag}"
            );
        }
    }

    #[test]
    fn an_address_beyond_this_machine_needs_consent() {
        assert!(settings(&["--bind", "127.0.0.1:0"]).is_ok());
        assert!(settings(&["--bind", "localhost:5000"]).is_ok());
        assert!(settings(&["--bind", "[::ffff:127.0.0.1]:0"]).is_ok());
        assert!(
            settings(&["--bind", "0.0.0.0:5000"])
                .unwrap_err()
                .contains("--allow-anonymous")
        );
        assert!(settings(&["--bind", "0.0.0.0:5000", "--allow-anonymous"]).is_ok());
        assert!(
            settings(&["--bind", "5000"])
                .unwrap_err()
                .contains("127.0.0.1:5000")
        );
    }

    #[test]
    fn two_brokers_on_one_command_line_contradict_each_other() {
        assert!(
            settings(&["--memory", "--redis-url", "redis://localhost"])
                .unwrap_err()
                .contains("give one")
        );
        assert!(
            settings(&["--memory", "--data-dir", "x"])
                .unwrap_err()
                .contains("give one")
        );
        assert_eq!(
            settings(&["--memory"]).unwrap().broker.chosen_by,
            "--memory"
        );
        assert!(
            settings(&["--redis-url", "http://localhost"])
                .unwrap_err()
                .contains("redis://")
        );
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        for bad in [
            ["--heartbeat", "15"],
            ["--heartbeat", "0s"],
            ["--coalesce", "101ms"],
            ["--coalesce", "5"],
            ["--fanout-threads", "-1"],
            ["--fanout-threads", "1000"],
            ["--write-timeout", "0s"],
            ["--streams-max", "0"],
            ["--history-events", "0"],
            ["--event-bytes-max", "17MiB"],
            ["--publish-memory", "1MiB"],
            ["--log", "loud"],
            ["--log", "info,sse_server=loud"],
            ["--history-bytes", "0"],
            ["--idempotency-keys", "0"],
            ["--idempotency-window", "0s"],
            ["--idempotency-window", "366d"],
            ["--cors-origin", "https://app.example/"],
            ["--cors-origin", "app.example"],
            ["--redis-prefix", "{app}:"],
        ] {
            assert!(settings(&bad).is_err(), "{bad:?}");
        }
    }
}
