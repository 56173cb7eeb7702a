//! The settings of `listener bench`, checked once.

use std::{net::IpAddr, num::NonZeroU64, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use sse_cli::switch::parse_switch;
use sse_proto::units::{parse_duration, parse_positive_duration};

use super::{stream_url::StreamUrl, target::Target, values::parse_event_size};

/// What `listener bench --help` ends with.
pub const EXAMPLES: &str = "\
Exit codes:
  0  done: --duration or --count is over, Ctrl-C, SIGTERM (a second one ends at once)
  1  failed: no connection could be opened, the report cannot be written, too few open files; with --expect-no-loss,
     an event was lost, doubled or out of order
  2  misused: a flag or an environment variable is wrong

Examples:
  sse-server and numbered events: ten thousand streams for a minute, every event of every one accounted for:
    event-generator --rate 100 --payload sequenced &
    listener bench --connections 10000 --duration 1m --report bench.json
  A storm: every 5 seconds a tenth of the streams is cut and comes back at once, with its last event id:
    listener bench --connections 1000 --duration 1m --cut-every 5s --cut-share 10% --expect-no-loss
  Nchan (a location with nchan_subscriber; nchan_subscriber_first_message newest to begin with what comes next):
    listener bench --url http://127.0.0.1:8080/sub/news --connections 5000 --ramp 10s --duration 1m
  Mercure, with a token:
    LISTENER_BEARER=\"$(cat token)\" listener bench --url 'http://127.0.0.1:3000/.well-known/mercure?topic=news' \\
      --connections 1000 --duration 1m
  Flask-SSE, whose events have no ids (so nothing can be resumed, and a cut loses events):
    listener bench --url http://127.0.0.1:8000/stream --connections 100 --duration 1m --cut-every 10s
  Anyone's events, timed by a key of their JSON data:
    listener bench --url http://127.0.0.1:8000/ticks --time-field timestamp --count 1000";

/// Opens very many streams and accounts for every event on each of them
///
/// One thread opens the connections, reads on until --duration or --count is over, Ctrl-C or SIGTERM, and prints on
/// stdout what came: connects, times to the first byte and to the open stream, events by type, rates and bytes, how
/// long events took when they say when they were sent, and for numbered events (`event-generator`'s) exactly what each
/// connection lost, got twice or out of order. Streams that end are resumed with their last event id as the listener
/// does it.
///
/// Only plain http is spoken, whatever the flags that it shares with the listener say: no https (and so no --insecure), no
/// proxies, and redirects are not followed but counted as refusals. Several --url share the
/// connections in turn; whoever gets no stream goes on to the next.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct LoadSettings {
    /// What is asked for, and of whom.
    #[command(flatten)]
    pub target: Target,

    /// Open this many streams
    #[arg(
        long,
        env = "LISTENER_BENCH_CONNECTIONS",
        value_name = "N",
        default_value = "1"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4_000_000), allow_negative_numbers = true)]
    pub connections: u32,

    /// Spread the first connects evenly over this time
    ///
    /// Without it they are made as fast as the server takes them, with at most 256 handshakes in flight.
    #[arg(long, env = "LISTENER_BENCH_RAMP", value_name = "DURATION", value_parser = parse_duration)]
    pub ramp: Option<Duration>,

    /// End after this time, the ramp included
    ///
    /// Without it, and without --count, it ends by Ctrl-C or SIGTERM.
    #[arg(long, env = "LISTENER_BENCH_DURATION", value_name = "DURATION", value_parser = parse_positive_duration)]
    pub duration: Option<Duration>,

    /// Close each connection after this many events, and end when all have got them
    ///
    /// `gap` events do not count.
    #[arg(long, env = "LISTENER_BENCH_COUNT", value_name = "EVENTS")]
    pub count: Option<NonZeroU64>,

    /// When the time is up, wait so long for connections that have not seen what others have seen
    ///
    /// What any connection has seen of a publisher when the time is up is what each has to see, also one that has nothing
    /// of it yet but was open before its first event was sent. What is missing then is lost. It ends as soon as nobody is behind, and all holes are filled.
    #[arg(
        long,
        env = "LISTENER_BENCH_SETTLE",
        value_name = "DURATION",
        default_value = "5s"
    )]
    #[arg(value_parser = parse_duration)]
    pub settle: Duration,

    /// Connect from this address of this machine; may be repeated
    ///
    /// An address has some 28 000 ports, and each connection takes one. To 127.0.0.0/8 on Linux, further addresses of
    /// this machine (127.0.0.2 and so on, one for 10 000 connections) are taken by themselves.
    #[arg(
        long = "source",
        env = "LISTENER_BENCH_SOURCE",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub sources: Vec<IpAddr>,

    /// Take the time at which an event was sent from this key of its JSON data
    ///
    /// A number of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by its size, or an RFC
    /// 3339 time. Without it, the stamp of event-generator is looked for. The clocks of both machines must agree.
    #[arg(long, env = "LISTENER_BENCH_TIME_FIELD", value_name = "NAME")]
    pub time_field: Option<String>,

    /// Cut a share of the streams this often, and resume each at once with its last event id
    #[arg(long, env = "LISTENER_BENCH_CUT_EVERY", value_name = "DURATION", value_parser = parse_positive_duration)]
    pub cut_every: Option<Duration>,

    /// The share of the streams to cut, like 10% or 0.1; at least one stream
    #[arg(
        long,
        env = "LISTENER_BENCH_CUT_SHARE",
        value_name = "SHARE",
        default_value = "10%",
        requires = "cut_every"
    )]
    pub cut_share: Share,

    /// Choose the streams to cut, and how long to wait, by this number: the same one gives the same choice
    #[arg(long, env = "LISTENER_BENCH_SEED", value_name = "N")]
    pub seed: Option<u64>,

    /// Take a connection for broken when nothing came for this long
    ///
    /// It is also the time that the server has to begin its answer.
    #[arg(
        long,
        env = "LISTENER_BENCH_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "45s"
    )]
    #[arg(value_parser = parse_positive_duration)]
    pub idle_timeout: Duration,

    /// Take a connection for broken when an event is larger than this
    #[arg(
        long,
        env = "LISTENER_BENCH_MAX_EVENT_SIZE",
        value_name = "SIZE",
        default_value = "1MiB"
    )]
    #[arg(value_parser = parse_event_size)]
    pub max_event_size: usize,

    /// Judge loss although events are filtered by type: the filter passes every numbered event
    ///
    /// Otherwise a number that is missing behind a filter (--event) means nothing, and loss is not judged.
    #[arg(long, env = "LISTENER_BENCH_FILTER_PASSES_ALL", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub filter_passes_all: bool,

    /// Say on stderr this often how it goes
    ///
    /// Without it, every 5 seconds, and on a terminal five times a second.
    #[arg(long, env = "LISTENER_BENCH_PROGRESS_EVERY", value_name = "DURATION", value_parser = parse_positive_duration)]
    pub progress_every: Option<Duration>,

    /// Also write the report to this file, as JSON and with more in it
    #[arg(long, env = "LISTENER_BENCH_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Exit with 1 if any numbered event was lost, doubled or out of order, or if no numbered event came
    #[arg(long, env = "LISTENER_BENCH_EXPECT_NO_LOSS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub expect_no_loss: bool,
}

/// No parameters to add to a URL.
pub(crate) const NOTHING: [(&str, &str); 0] = [];

/// A share of a whole, from 0 to 1, but not 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl LoadSettings {
    /// What no flag alone can say.
    ///
    /// # Errors
    /// The text to show to whoever wrote them.
    pub fn check(&self) -> Result<(), String> {
        self.target.check()?;
        if let Some(url) = self.target.urls.iter().find(|url| url.is_https()) {
            return Err(format!(
                "bench speaks plain http only, and {url} is https: give the address of the server behind the proxy that has \
                 the certificate"
            ));
        }
        if self.target.insecure {
            return Err(
                "--insecure (LISTENER_INSECURE) means nothing to bench, which speaks plain http only: leave it out"
                    .to_owned(),
            );
        }
        if self.expect_no_loss
            && let Some(why) = self.why_loss_is_not_judged()
        {
            return Err(format!("--expect-no-loss cannot be told: {why}"));
        }
        Ok(())
    }

    /// Why missing numbers mean nothing, if they do not.
    #[must_use]
    pub fn why_loss_is_not_judged(&self) -> Option<&'static str> {
        let in_the_query = |url: &StreamUrl| {
            let url = url.with_query(NOTHING);
            url.query_pairs().any(|(name, _)| name == "event")
        };
        let is_filtered =
            !self.target.events.is_empty() || self.target.urls.iter().any(in_the_query);
        (is_filtered && !self.filter_passes_all).then_some(
            "the server leaves out events by their type (--event, or `event` in the URL; if it leaves out none, say \
             --filter-passes-all)",
        )
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, whole) = text
            .strip_suffix('%')
            .map_or((text, 1.0), |percent| (percent, 100.0));
        match number.trim().parse::<f64>().map(|number| number / whole) {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err(
                "write a share, like 10% or 0.1, that is more than nothing and not more than all",
            ),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        settings: LoadSettings,
    }

    fn parsed(arguments: &[&str]) -> LoadSettings {
        CommandLine::try_parse_from([&["bench"], arguments].concat())
            .expect("sound")
            .settings
    }

    #[test]
    fn the_definition_is_sound_and_flags_of_its_own_have_twins_of_their_own() {
        let command = CommandLine::command();
        command.clone().debug_assert();
        let own = command
            .get_arguments()
            .skip_while(|flag| flag.get_long() != Some("connections"));
        for flag in own.filter(|flag| flag.get_long() != Some("help")) {
            let name = flag.get_long().expect("every setting is a flag");
            let twin = format!("LISTENER_BENCH_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(twin.as_str())
            );
            assert!(flag.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn shares_are_percent_or_fractions() {
        for (text, share) in [("10%", 0.1), ("0.5", 0.5), ("100%", 1.0), ("0.5%", 0.005)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        for bad in ["", "%", "0", "101%", "-1%", "NaN", "ten"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn https_is_refused_and_says_what_to_do() {
        let said = parsed(&["--url", "https://user:secret@example.org"])
            .check()
            .expect_err("refused");
        assert!(
            said.contains("plain http only") && !said.contains("secret"),
            "{said}"
        );
    }

    #[test]
    fn there_is_no_certificate_to_leave_unchecked() {
        let said = parsed(&["--insecure"]).check().expect_err("refused");
        assert!(
            said.contains("--insecure") && said.contains("plain http only"),
            "{said}"
        );
    }

    #[test]
    fn a_filter_leaves_holes_that_are_no_loss() {
        for filter in [&["--event", "a"][..], &["--url", "http://h/s?event=a"]] {
            assert!(
                parsed(filter).why_loss_is_not_judged().is_some() && parsed(filter).check().is_ok()
            );
            assert!(
                parsed(&[filter, &["--expect-no-loss"]].concat())
                    .check()
                    .is_err()
            );
            let passing = parsed(&[filter, &["--expect-no-loss", "--filter-passes-all"]].concat());
            assert!(passing.why_loss_is_not_judged().is_none() && passing.check().is_ok());
        }
        assert!(
            parsed(&["--url", "http://h/s?events=a"])
                .why_loss_is_not_judged()
                .is_none()
        );
    }
}
