//! The command line: every setting with its default, its environment variable and its help.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use clap_complete::Shell;
use hyper::Method;
use sse_cli::{header::Bearer, secret::Unquoted, switch::parse_switch, tls::TrustedCertificates};
use sse_proto::{Channel, units};

use super::{help, values};
use crate::{
    payload::{Actions, replay::Recording},
    report::progress::Progress,
    request::base_url::BaseUrl,
    request::{Header, Template},
    schedule::{Curve, Spread, parse_ramp, parse_rate},
};

/// Publishes events to a Server-Sent Events server by a schedule, and counts what was acknowledged
///
/// Each event is an action of a user, sent as `POST {url}/event/{action}`. Its data is by default
/// the JSON string of the tutorial, `"user_id: …, timestamp: …"`. Event n is due n / rate after the
/// start. A slow response does not delay the next event until --concurrency requests wait for their
/// responses. stdout has the status code of each response. stderr has messages about failures, the
/// progress, and at the end a summary. Latency is measured from when an event was due.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
#[command(after_help = help::SHORT_EXAMPLES, after_long_help = help::AFTER_HELP)]
pub(crate) struct Settings {
    /// URL of the server
    ///
    /// http or https. The path is a prefix: with `https://example.org/live`, events are sent to
    /// `https://example.org/live/event/view`. A user name and a password in the URL are sent as
    /// basic authentication and never printed. `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are used,
    /// but not for the addresses of this machine.
    #[arg(
        long,
        env = "GENERATOR_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000",
        value_parser = Unquoted(BaseUrl::parse),
        value_name = "URL"
    )]
    pub(crate) url: BaseUrl,

    /// Channel to publish to; by default no channel is named, and sse-server uses "sse"
    #[arg(long, env = "GENERATOR_CHANNEL", value_name = "NAME")]
    pub(crate) channel: Option<Channel>,

    /// Publish to this many channels in turn: NAME.0, NAME.1 and so on, where NAME is --channel
    ///
    /// Like a user's notifications, of which each goes to a channel of its own. Loss cannot be counted by
    /// numbers then, because each channel has only some of the events of a publisher.
    #[arg(
        long,
        env = "GENERATOR_CHANNELS",
        requires = "channel",
        conflicts_with_all = ["batch", "record"],
        value_name = "N"
    )]
    pub(crate) channels: Option<NonZeroU64>,

    /// Events per second, more than 0 and at most 1000000; 0.5 is one every two seconds
    ///
    /// With max, each connection sends its next request as soon as it has a response, so that
    /// --concurrency requests are always in flight. Such a closed loop has no schedule: a slow
    /// server gets fewer events, so the latencies look better than those of independent users. If
    /// the server does not listen, the loop pauses, for 50 ms at first and for at most 1 s.
    #[arg(
        long,
        env = "GENERATOR_RATE",
        default_value = "1",
        value_parser = parse_rate,
        allow_negative_numbers = true,
        conflicts_with = "ramp",
        value_name = "EVENTS",
        help_heading = help::SCHEDULE
    )]
    pub(crate) rate: Curve,

    /// Change the rate linearly, like 10..1000/60s, and keep the last rate; instead of --rate
    #[arg(long, env = "GENERATOR_RAMP", value_parser = parse_ramp)]
    #[arg(value_name = "FROM..TO/DURATION", help_heading = help::SCHEDULE)]
    pub(crate) ramp: Option<Curve>,

    /// Distribution of the events in time
    #[arg(
        long,
        env = "GENERATOR_ARRIVALS",
        value_enum,
        default_value_t,
        value_name = "SPREAD"
    )]
    #[arg(help_heading = help::SCHEDULE)]
    pub(crate) arrivals: Spread,

    /// Stop after this many events, including failed ones [default: no limit]
    #[arg(long, env = "GENERATOR_COUNT", value_parser = values::parse_count)]
    #[arg(allow_negative_numbers = true, value_name = "EVENTS", help_heading = help::SCHEDULE)]
    pub(crate) count: Option<u64>,

    /// Stop after this time, like 500ms, 10s, 5m or 1h [default: no limit]
    ///
    /// The run still waits for the last responses. With --count, the first limit that is reached ends
    /// the run.
    #[arg(long, env = "GENERATOR_DURATION", value_parser = units::parse_positive_duration)]
    #[arg(allow_negative_numbers = true, value_name = "DURATION", help_heading = help::SCHEDULE)]
    pub(crate) duration: Option<Duration>,

    /// Highest number of requests in flight, each on a connection of its own
    ///
    /// At this number the schedule waits. The latency of the events that are then sent late
    /// includes the delay.
    #[arg(long, env = "GENERATOR_CONCURRENCY", default_value = "256")]
    #[arg(value_parser = values::parse_concurrency, allow_negative_numbers = true)]
    #[arg(value_name = "REQUESTS", help_heading = help::SCHEDULE)]
    pub(crate) concurrency: usize,

    /// Events per request; more than 1 sends them as NDJSON to `POST {url}/events`
    ///
    /// A batch is sent when its last event is due, and the last batch at the end of the run. The
    /// server stores all events of a batch, or none. Latency is measured for each event, from when
    /// it was due.
    #[arg(long, env = "GENERATOR_BATCH", default_value = "1", value_parser = values::parse_batch)]
    #[arg(allow_negative_numbers = true, value_name = "EVENTS", help_heading = help::SCHEDULE)]
    pub(crate) batch: usize,

    /// Data of the events
    #[arg(long, env = "GENERATOR_PAYLOAD", value_enum, value_name = "PAYLOAD")]
    #[arg(help_heading = help::EVENTS)]
    pub(crate) payload: Option<PayloadKind>,

    /// Actions of the users, separated by commas, each with an optional weight [default:
    /// view,click,close]
    ///
    /// An action is the type of an event: a browser receives it by `addEventListener("click", …)`.
    /// Without weights, all actions are equally frequent. With view=8,click=2, four of five events
    /// are views. The weight 0 switches an action off.
    #[arg(long, env = "GENERATOR_ACTIONS", value_name = "NAME[=WEIGHT],…")]
    #[arg(help_heading = help::EVENTS)]
    pub(crate) actions: Option<Actions>,

    /// Pad the data of --payload sequenced to this size, like 200 or 1KiB, at most 16MiB
    #[arg(long, env = "GENERATOR_DATA_SIZE", value_parser = values::parse_data_size)]
    #[arg(value_name = "BYTES", help_heading = help::EVENTS)]
    pub(crate) data_size: Option<usize>,

    /// Add publisher, sequence and send time to the data of the events
    ///
    /// These three keys identify an event in the files of --record and `listener --record` even if
    /// its id is not known, and they measure the latency to a subscriber. The tutorial's text
    /// becomes the key "message" of an object. The events of --payload sequenced always have the
    /// keys.
    #[arg(long, env = "GENERATOR_STAMP", num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_switch, value_name = "BOOL", help_heading = help::EVENTS)]
    pub(crate) stamp: bool,

    /// Number of simulated users for --payload session, at most 1000000 [default: 100]
    ///
    /// The timestamps of the events are those of the simulation, with 8 s between actions and 5 min
    /// between sessions on average. The first timestamp is the start of the run. A user makes about
    /// 0.0187 events per second of the simulation. With --rate 1.87 for 100 users (18.7 for 1000),
    /// the timestamps advance like the clock; with ten times that rate, ten times as fast.
    #[arg(long, env = "GENERATOR_USERS", value_parser = values::parse_users)]
    #[arg(allow_negative_numbers = true, value_name = "USERS", help_heading = help::EVENTS)]
    pub(crate) users: Option<u32>,

    /// Send recorded events instead, from a file with NDJSON or from stdin (-)
    ///
    /// The file has one event per line, as `listener --format json` prints them, `GET /events`
    /// returns them as NDJSON, and `POST /events` accepts them. The keys "event" and "data" are
    /// used; other keys and comments are ignored. A string in "data" is sent as its text. Types
    /// that sse-server rejects are allowed only with --method, --path or --body. The schedule
    /// determines the rate. The file is read during the run; an invalid line ends the run with code
    /// 1.
    #[arg(long, env = "GENERATOR_REPLAY", value_parser = values::parse_recording)]
    #[arg(value_name = "FILE", help_heading = help::EVENTS)]
    pub(crate) replay: Option<Recording>,

    /// Send the same events in the same order in each run with this number
    ///
    /// Times differ, and so does the publisher id of a record: two runs never look like one.
    /// Poisson arrivals are at the same times.
    #[arg(long, env = "GENERATOR_SEED", value_parser = values::parse_seed)]
    #[arg(allow_negative_numbers = true, value_name = "NUMBER", help_heading = help::EVENTS)]
    pub(crate) seed: Option<u64>,

    /// Method of the requests, for a server other than sse-server [default: POST]
    ///
    /// With --method, --path or --body, each response with a 2xx status is an acknowledgement.
    #[arg(long, env = "GENERATOR_METHOD", value_parser = values::parse_method)]
    #[arg(value_name = "METHOD", help_heading = help::REQUESTS)]
    pub(crate) method: Option<Method>,

    /// Path and query of the requests, after the path of --url [default: /event/{action}]
    ///
    /// The placeholders {action} for the type of the event, {data} for its data, {seq} for its
    /// number and {channel} for the channel also work in --body and --header. {data:url} is
    /// percent-encoded, as forms and queries need it, and {data:json} is a JSON string with its
    /// quotes; the other placeholders have these variants too. All other text is kept, including
    /// other braces. In a path, placeholders are always percent-encoded.
    #[arg(long, env = "GENERATOR_PATH", value_parser = values::parse_path, value_name = "TEMPLATE")]
    #[arg(help_heading = help::REQUESTS)]
    pub(crate) path: Option<Template>,

    /// Body of the requests, with placeholders like --path [default: {data}]
    ///
    /// The content type is application/json unless --header sets another one: with 'Content-Type:
    /// application/x-www-form-urlencoded' write 'topic={channel:url}&data={data:url}'. GET, HEAD
    /// and DELETE have no body by default.
    #[arg(long, env = "GENERATOR_BODY", hide_env_values = true)]
    #[arg(value_parser = values::parse_template, value_name = "TEMPLATE")]
    #[arg(help_heading = help::REQUESTS)]
    pub(crate) body: Option<Template>,

    /// Add this header, like 'X-Api-Key: 123', with placeholders like --path; may be repeated
    ///
    /// The environment variable holds one header. Values are never printed. Prefer the variable for
    /// a secret: other users of the machine can read command lines. An event whose data would make
    /// a header invalid is not sent, and counts as failed.
    #[arg(long = "header", env = "GENERATOR_HEADER", hide_env_values = true)]
    #[arg(value_name = "NAME: VALUE", help_heading = help::REQUESTS)]
    #[arg(value_parser = Unquoted(Header::parse))]
    pub(crate) header: Vec<Header>,

    /// Send this token as `Authorization: Bearer TOKEN`
    ///
    /// The token is never printed. Prefer the environment variable: other users of the machine can
    /// read command lines.
    #[arg(
        long,
        env = "GENERATOR_BEARER",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    #[arg(help_heading = help::REQUESTS)]
    #[arg(value_parser = Unquoted(Bearer::parse))]
    pub(crate) bearer: Option<Bearer>,

    /// Do not check the server's certificate
    ///
    /// Use this only for your own server with a self-signed certificate: an attacker on the network
    /// path can then read and change everything, including --bearer and --header.
    #[arg(long, env = "GENERATOR_INSECURE", num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_switch, value_name = "BOOL", help_heading = help::REQUESTS)]
    pub(crate) insecure: bool,

    /// Trust the certificates in this file (PEM) instead of those of the system
    ///
    /// Use it for a server whose certificate is issued by a private authority, or self-signed and
    /// not that of an authority: openssl req -x509 needs -addext
    /// basicConstraints=critical,CA:FALSE.
    #[arg(long, env = "GENERATOR_CACERT", value_parser = TrustedCertificates::read)]
    #[arg(value_name = "FILE", help_heading = help::REQUESTS)]
    pub(crate) cacert: Option<TrustedCertificates>,

    /// Connect to the unix socket at this path; --url still sets the path and the host of requests
    #[arg(long, env = "GENERATOR_UNIX_SOCKET", value_name = "PATH", help_heading = help::REQUESTS)]
    pub(crate) unix_socket: Option<PathBuf>,

    /// Repeat a request with an idempotency key, up to this many times, if its outcome is not known
    ///
    /// Each event or batch is sent with a random `Idempotency-Key`, so that sse-server stores it
    /// once. A request is repeated after a timeout, a broken or refused connection, a 429, a 503,
    /// and another server error with an unknown outcome. The pause is 50 to 100 ms at first and
    /// doubles each time, up to 5 s. It is never shorter than the response's `Retry-After`.
    /// Repeating ends after a minute. The last outcome counts; an event that may have been stored
    /// stays unknown until it is acknowledged. At most 100, and only for the API of sse-server.
    #[arg(long, env = "GENERATOR_RETRY", value_parser = values::parse_retry)]
    #[arg(allow_negative_numbers = true, value_name = "TIMES", help_heading = help::REQUESTS)]
    pub(crate) retry: Option<u32>,

    /// Write a line of JSON to this file for each event that was acknowledged or has an unknown
    /// outcome
    ///
    /// Every acknowledged event has a line, with its id if it is known. So has every event with an
    /// unknown outcome: no response in time, a broken connection, or a server error. Rejected
    /// events have none. The file is emptied first. An event whose id is here and not in the file
    /// of `listener --record` was lost. The data of events stays the same; with --stamp, events
    /// without an id can be compared too.
    #[arg(long, env = "GENERATOR_RECORD", value_name = "FILE", help_heading = help::OUTPUT)]
    pub(crate) record: Option<PathBuf>,

    /// Write the figures of the run to this file as JSON, also if the run is interrupted
    #[arg(long, env = "GENERATOR_REPORT", value_name = "FILE", help_heading = help::OUTPUT)]
    pub(crate) report: Option<PathBuf>,

    /// Print the status code of each response at any rate
    ///
    /// By default they are printed up to 100 events per second. --print-status=false never prints
    /// them.
    #[arg(
        long,
        env = "GENERATOR_PRINT_STATUS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_switch,
        value_name = "BOOL",
        help_heading = help::OUTPUT
    )]
    pub(crate) print_status: Option<bool>,

    /// Progress of the run on stderr
    #[arg(
        long,
        env = "GENERATOR_PROGRESS",
        value_enum,
        default_value_t,
        value_name = "STYLE"
    )]
    #[arg(help_heading = help::OUTPUT)]
    pub(crate) progress: Progress,

    /// Print a script that completes the flags in a shell, and exit
    #[arg(long, value_enum, value_name = "SHELL", help_heading = help::OUTPUT)]
    pub(crate) completions: Option<Shell>,

    /// Write the man page to this directory, and exit
    #[arg(long, value_name = "DIRECTORY", help_heading = help::OUTPUT)]
    pub(crate) man: Option<PathBuf>,
}

/// Values of `--payload`. Their docs are help texts, which are shown as they are.
#[expect(clippy::doc_markdown, reason = "back-ticks would be shown in the help")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadKind {
    /// The JSON string of the tutorial, "user_id: …, timestamp: …" (the default); with --stamp, an
    /// object that contains it
    #[default]
    Tutorial,
    /// The smallest data to measure with: {"publisher","sequence","sent_us"}; sent_us is when the
    /// event was due
    Sequenced,
    /// Simulated users with sessions: {"user_id","session_id","action","page","timestamp"};
    /// timestamp is when the user acted in the simulation (see --users)
    Session,
}
