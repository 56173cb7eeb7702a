//! The settings of `listener bench`, checked once.

use std::{net::IpAddr, num::NonZeroU64, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use sse_cli::switch::parse_switch;
use sse_proto::units::{parse_duration, parse_positive_duration};

use super::{
    load_help::{EXAMPLES, SHORT_EXAMPLES},
    stream_url::StreamUrl,
    target::Target,
    values::{parse_connections, parse_count, parse_event_size, parse_whole_number},
};

/// Opens many streams and accounts for every event on each of them
///
/// One thread opens the connections and reads them until --duration or --count is reached, Ctrl-C
/// or SIGTERM. The report on stdout counts connects, events by type, rates and bytes, and contains
/// the times to the first byte and to the open stream. For events with a stamp, it contains the
/// latency. For numbered events (of `event-generator`), it lists exactly which events each
/// connection lost, received twice or received out of order. Streams that end are resumed with
/// their last event id, as by the listener.
///
/// Each stream has a connection of its own, unless --http2-streams lets several share one. Every TLS
/// handshake is a full one. The load test uses no proxies, and redirects are counted as rejections
/// instead of being followed. Several --url share the connections in turn; a connection that gets
/// no stream moves on to the next URL.
#[derive(Debug, Clone, Args)]
#[command(after_help = SHORT_EXAMPLES, after_long_help = EXAMPLES)]
pub struct LoadSettings {
    /// The request, and the servers that it is sent to.
    #[command(flatten)]
    pub target: Target,

    /// Open this many streams
    #[arg(
        long,
        env = "LISTENER_BENCH_CONNECTIONS",
        value_name = "N",
        default_value = "1"
    )]
    #[arg(value_parser = parse_connections, allow_negative_numbers = true)]
    pub connections: u32,

    /// Use HTTP/2, with this many streams on each connection
    ///
    /// HTTP/2 needs https. A cut by --cut-every resets the stream, and its connection stays open.
    /// Without this flag the load test uses HTTP/1.1.
    #[arg(long, env = "LISTENER_BENCH_HTTP2_STREAMS", value_name = "N")]
    #[arg(value_parser = parse_connections, allow_negative_numbers = true)]
    pub http2_streams: Option<u32>,

    /// Spread the first connects evenly over this time
    ///
    /// By default the connections are made as fast as the server accepts them, with at most 256
    /// handshakes in flight.
    #[arg(long, env = "LISTENER_BENCH_RAMP", value_name = "DURATION", value_parser = parse_duration)]
    pub ramp: Option<Duration>,

    /// End after this time, including the ramp
    ///
    /// Without --duration and --count, Ctrl-C or SIGTERM ends the test.
    #[arg(long, env = "LISTENER_BENCH_DURATION", value_name = "DURATION", value_parser = parse_positive_duration)]
    pub duration: Option<Duration>,

    /// Close each connection after this many events, and end when all are closed
    ///
    /// `gap` events do not count.
    #[arg(long, env = "LISTENER_BENCH_COUNT", value_name = "EVENTS")]
    #[arg(value_parser = parse_count, allow_negative_numbers = true)]
    pub count: Option<NonZeroU64>,

    /// Grace period after the test for slow connections to catch up
    ///
    /// At the end of the test, each connection must have received every event of a publisher that
    /// any connection received. This includes connections without any event of the publisher, if
    /// they were open before its first event was sent. The grace period ends as soon as no event is
    /// missing. Events that are still missing after it are lost.
    #[arg(
        id = "settle",
        long = "settle",
        env = "LISTENER_BENCH_SETTLE",
        value_name = "DURATION",
        default_value = "5s"
    )]
    #[arg(value_parser = parse_duration)]
    pub settle_time: Duration,

    /// Connect from this address of this machine; may be repeated
    ///
    /// An address has about 28 000 ports, and each connection needs one. For connections to
    /// 127.0.0.0/8 on Linux, further loopback addresses (127.0.0.2 and so on, one per 10 000
    /// connections) are used by default.
    #[arg(
        long = "source",
        env = "LISTENER_BENCH_SOURCE",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub sources: Vec<IpAddr>,

    /// Key of the JSON data that contains the time at which the event was sent
    ///
    /// The time is an RFC 3339 time or a number of seconds, milliseconds, microseconds or
    /// nanoseconds since 1970, which are distinguished by their size. By default the time is in the
    /// stamp of event-generator. The clocks of both machines must agree.
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

    /// Seed of the random choice of streams to cut and of waits
    #[arg(long, env = "LISTENER_BENCH_SEED", value_name = "N")]
    #[arg(value_parser = parse_whole_number, allow_negative_numbers = true)]
    pub seed: Option<u64>,

    /// Close a connection after this long without any bytes from the server
    ///
    /// The time also limits the wait for a response.
    #[arg(
        long,
        env = "LISTENER_BENCH_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "45s"
    )]
    #[arg(value_parser = parse_positive_duration)]
    pub idle_timeout: Duration,

    /// Close a connection whose event is larger than this
    #[arg(
        long,
        env = "LISTENER_BENCH_MAX_EVENT_SIZE",
        value_name = "SIZE",
        default_value = "1MiB"
    )]
    #[arg(value_parser = parse_event_size)]
    pub max_event_size: usize,

    /// Judge loss behind a filter by type, because the filter passes every numbered event
    ///
    /// Without this flag, loss is not judged behind a filter (--event), which can leave out
    /// numbers.
    #[arg(long, env = "LISTENER_BENCH_FILTER_PASSES_ALL", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub filter_passes_all: bool,

    /// Report progress on stderr this often
    ///
    /// The default is every 5 seconds, and on a terminal five times per second.
    #[arg(long, env = "LISTENER_BENCH_PROGRESS_EVERY", value_name = "DURATION", value_parser = parse_positive_duration)]
    pub progress_every: Option<Duration>,

    /// Also write the report to this file, as JSON with more detail
    #[arg(long, env = "LISTENER_BENCH_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Exit with 1 if a numbered event was lost, received twice or out of order, or if none was
    /// received
    #[arg(long, env = "LISTENER_BENCH_EXPECT_NO_LOSS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = parse_switch)]
    pub expect_no_loss: bool,
}

/// No parameters to add to a URL.
pub(crate) const NOTHING: [(&str, &str); 0] = [];

/// A share of a whole: more than 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl LoadSettings {
    /// Checks combinations of settings.
    ///
    /// # Errors
    /// The text to print.
    pub fn check(&self) -> Result<(), String> {
        self.target.check()?;
        if self.http2_streams.is_some()
            && let Some(url) = self.target.urls().find(|url| !url.is_https())
        {
            return Err(format!(
                "--http2-streams needs https, because the server chooses HTTP/2 in the TLS handshake, and \
                 {url} is plain http"
            ));
        }
        if self.expect_no_loss
            && let Some(why) = self.why_loss_is_not_judged()
        {
            return Err(format!("--expect-no-loss cannot be judged: {why}"));
        }
        Ok(())
    }

    /// Number of connections to the servers.
    #[must_use]
    pub fn sockets(&self) -> u32 {
        self.connections.div_ceil(self.http2_streams.unwrap_or(1))
    }

    /// The reason why missing numbers are no loss, if there is one.
    #[must_use]
    pub fn why_loss_is_not_judged(&self) -> Option<&'static str> {
        (self.filters_events() && !self.filter_passes_all).then_some(
            "the server leaves out events by their type (--event, or `event` in the URL); if the filter passes all \
             numbered events, add --filter-passes-all",
        )
    }

    /// Returns whether the server sends only some types of events.
    fn filters_events(&self) -> bool {
        !self.target.events.is_empty() || self.target.urls().any(names_events)
    }
}

/// Returns whether the query of a URL names event types.
fn names_events(url: &StreamUrl) -> bool {
    let url = url.with_query(NOTHING);
    url.query_pairs().any(|(name, _)| name == "event")
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, whole) = text
            .strip_suffix('%')
            .map_or((text, 1.0), |percent| (percent, 100.0));
        match number.trim().parse::<f64>().map(|number| number / whole) {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err("write a share, like 10% or 0.1, that is more than 0% and at most 100%"),
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
    fn every_flag_of_bench_has_a_help_text_and_an_environment_variable() {
        let command = CommandLine::command();
        command.clone().debug_assert();
        let own = command
            .get_arguments()
            .skip_while(|flag| flag.get_long() != Some("connections"));
        for flag in own.filter(|flag| flag.get_long() != Some("help")) {
            let name = flag.get_long().expect("every setting is a flag");
            let variable = format!("LISTENER_BENCH_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(variable.as_str())
            );
            assert!(flag.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        for (text, share) in [("10%", 0.1), ("0.5", 0.5), ("100%", 1.0), ("0.5%", 0.005)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        for bad in ["", "%", "0", "101%", "-1%", "NaN", "ten"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn http2_needs_https() {
        let http2 = ["--http2-streams", "100", "--connections", "250"];
        let error = parsed(&[&["--url", "http://user:secret@example.org"], &http2[..]].concat())
            .check()
            .expect_err("misuse");
        assert!(
            error.contains("needs https") && !error.contains("secret"),
            "{error}"
        );
        let settings = parsed(&[&["--url", "https://example.org"], &http2[..]].concat());
        assert!(settings.check().is_ok());
        assert_eq!(settings.sockets(), 3);
    }

    #[test]
    fn behind_a_filter_loss_is_not_judged() {
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
