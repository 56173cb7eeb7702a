//! The command line: every setting, its default, its environment variable, and its help.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use clap_complete::Shell;
use hyper::Method;
use sse_cli::{header::Bearer, secret::Unquoted, switch::parse_switch};
use sse_proto::{Channel, units};

use super::{help, values};
use crate::{
    payload::{Actions, replay::Recording},
    report::stderr::Progress,
    request::base_url::BaseUrl,
    request::{Header, Template},
    schedule::{Curve, Spread, parse_ramp, parse_rate},
};

/// Posts events to a Server-Sent Events server by a schedule, and counts what was acknowledged
///
/// Each event is an action of a user, sent as `POST {url}/event/{action}`; without further flags with the JSON string of
/// the tutorial, `"user_id: …, timestamp: …"`. The rate is kept by schedule: event n is due n / rate after the start, and
/// a slow answer does not delay the next event, until --concurrency requests wait for their answers. stdout has the
/// status code of each answer; stderr has what failed, the progress, and at the end a summary. Latency is measured from
/// when an event was due.
#[derive(Debug, Parser)]
#[command(version, after_help = help::AFTER_HELP, max_term_width = 100)]
pub(crate) struct Settings {
    /// Address of the server
    ///
    /// http or https. A path is a prefix: with `https://example.org/live`, events go to
    /// `https://example.org/live/event/view`. A user name and a password in it are sent as basic authentication, and never printed.
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are honoured, but not for this machine's own addresses.
    #[arg(
        long,
        env = "GENERATOR_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000",
        value_parser = Unquoted(BaseUrl::parse),
        value_name = "URL"
    )]
    pub(crate) url: BaseUrl,

    /// Channel to publish to; without it none is named, and the server takes "sse"
    #[arg(long, env = "GENERATOR_CHANNEL", value_name = "NAME")]
    pub(crate) channel: Option<Channel>,

    /// Events a second, more than 0 and at most 1000000; 0.5 is one every two seconds
    ///
    /// The word max sends as fast as answers come, always with --concurrency requests under way. Such a closed loop has
    /// no schedule: while the server is slow fewer events are sent, so its latencies look better than users' would be.
    /// When nobody listens it pauses, for 50 ms at first and at most for a second.
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

    /// Let the rate grow linearly, like 10..1000/60s, and then stay; instead of --rate
    #[arg(long, env = "GENERATOR_RAMP", value_parser = parse_ramp, value_name = "FROM..TO/DURATION", help_heading = help::SCHEDULE)]
    pub(crate) ramp: Option<Curve>,

    /// How events are spread in time
    #[arg(long, env = "GENERATOR_ARRIVALS", value_enum, default_value_t, value_name = "SPREAD", help_heading = help::SCHEDULE)]
    pub(crate) arrivals: Spread,

    /// Stop after this many events, those that failed included; without it, go on until stopped
    #[arg(long, env = "GENERATOR_COUNT", value_parser = values::parse_count, allow_negative_numbers = true, value_name = "EVENTS", help_heading = help::SCHEDULE)]
    pub(crate) count: Option<u64>,

    /// Stop after this long, like 500ms, 10s, 5m or 1h
    ///
    /// Answers that are still missing are waited for. With --count as well, whichever comes first ends the run.
    #[arg(long, env = "GENERATOR_DURATION", value_parser = units::parse_positive_duration, allow_negative_numbers = true, value_name = "DURATION", help_heading = help::SCHEDULE)]
    pub(crate) duration: Option<Duration>,

    /// Requests that may wait for their answers at a time, each on a connection of its own
    ///
    /// Beyond them the schedule waits; what is then sent late has that delay in its latency.
    #[arg(long, env = "GENERATOR_CONCURRENCY", default_value = "256", value_parser = values::parse_concurrency, allow_negative_numbers = true, value_name = "REQUESTS", help_heading = help::SCHEDULE)]
    pub(crate) concurrency: usize,

    /// Events of a request; more than 1 sends them as NDJSON to `POST {url}/events`
    ///
    /// A batch goes when its last event is due, and what has gathered when the run ends. The server takes all of its
    /// events or none. Latency is still that of each event, from when it was due.
    #[arg(long, env = "GENERATOR_BATCH", default_value = "1", value_parser = values::parse_batch, allow_negative_numbers = true, value_name = "EVENTS", help_heading = help::SCHEDULE)]
    pub(crate) batch: usize,

    /// What the events carry
    #[arg(long, env = "GENERATOR_PAYLOAD", value_enum, value_name = "PAYLOAD", help_heading = help::EVENTS)]
    pub(crate) payload: Option<PayloadKind>,

    /// The actions of the users, separated by commas, each with an optional weight [default: view,click,close]
    ///
    /// An action is the event's type: `addEventListener("click", …)` in a browser hears it. Without weights all are
    /// equally frequent; view=8,click=2 makes four of five events a view. A weight of 0 switches an action off.
    #[arg(long, env = "GENERATOR_ACTIONS", value_name = "NAME[=WEIGHT],…", help_heading = help::EVENTS)]
    pub(crate) actions: Option<Actions>,

    /// Pad the data of --payload sequenced to this size, like 200 or 1KiB, at most 16MiB
    #[arg(long, env = "GENERATOR_DATA_SIZE", value_parser = values::parse_data_size, value_name = "BYTES", help_heading = help::EVENTS)]
    pub(crate) data_size: Option<usize>,

    /// Simulated users of --payload session, at most 1000000 [default: 100]
    ///
    /// The timestamps of the events are those of the users, with think times of 8 s and pauses of 5 min on average: the
    /// first is when the run began, whatever --rate sends them at. By nature a user makes about 0.0187 events a second:
    /// at --rate 1.87 for 100 users (18.7 for 1000) the timestamps go with the wall clock, at ten times that ten times as
    /// fast.
    #[arg(long, env = "GENERATOR_USERS", value_parser = values::parse_users, allow_negative_numbers = true, value_name = "USERS", help_heading = help::EVENTS)]
    pub(crate) users: Option<u32>,

    /// Play recorded events instead, from a file of NDJSON or from stdin (-)
    ///
    /// Takes what `listener --format json` prints, what `GET /events` gives as NDJSON, and what goes to `POST /events`:
    /// a line for each event, with the keys "event" and "data"; others are ignored, and so are lines that are comments. A
    /// string in "data" stands for its text. Types that our server would refuse are played only with --method, --path or
    /// --body. The rate is that of the schedule. The file is read as it is played; a bad line ends the run with code 1.
    #[arg(long, env = "GENERATOR_REPLAY", value_parser = values::parse_recording, value_name = "FILE", help_heading = help::EVENTS)]
    pub(crate) replay: Option<Recording>,

    /// Draw the same events again: the same number gives the same ones, in the same order
    ///
    /// Times differ, and so does the publisher id of a record: two runs can always be told apart. Poisson arrivals come
    /// at the same moments again.
    #[arg(long, env = "GENERATOR_SEED", value_parser = values::parse_seed, allow_negative_numbers = true, value_name = "NUMBER", help_heading = help::EVENTS)]
    pub(crate) seed: Option<u64>,

    /// Method of the requests, for another server than ours [default: POST]
    ///
    /// With --method, --path or --body, each answer with a 2xx status counts as an acknowledgement.
    #[arg(long, env = "GENERATOR_METHOD", value_parser = values::parse_method, value_name = "METHOD", help_heading = help::REQUESTS)]
    pub(crate) method: Option<Method>,

    /// Path and query of the requests, behind the path of --url [default: /event/{action}]
    ///
    /// In it, as in --body and --header, {action} stands for the event's type, {data} for its data, {seq} for its number
    /// and {channel} for the channel. {data:url} is percent-encoded, as forms and queries need it, and {data:json} is a
    /// JSON string with its quotes; the same for the others. Everything else stays as it is, other braces too. In a path
    /// placeholders are always percent-encoded.
    #[arg(long, env = "GENERATOR_PATH", value_parser = values::parse_path, value_name = "TEMPLATE", help_heading = help::REQUESTS)]
    pub(crate) path: Option<Template>,

    /// Body of the requests, with placeholders like --path [default: {data}]
    ///
    /// It goes as application/json unless --header says otherwise: with 'Content-Type: application/x-www-form-urlencoded'
    /// write 'topic={channel:url}&data={data:url}'. GET, HEAD and DELETE have no body unless it is given.
    #[arg(long, env = "GENERATOR_BODY", hide_env_values = true, value_parser = values::parse_template, value_name = "TEMPLATE", help_heading = help::REQUESTS)]
    pub(crate) body: Option<Template>,

    /// Send this header as well, like 'X-Api-Key: 123', with placeholders like --path; may be repeated
    ///
    /// The variable holds one header. Values are never printed; a secret is better kept in the variable than on the
    /// command line. An event whose data would break a header is not sent, and counts as failed.
    #[arg(long = "header", env = "GENERATOR_HEADER", hide_env_values = true, value_name = "NAME: VALUE", help_heading = help::REQUESTS)]
    #[arg(value_parser = Unquoted(Header::parse))]
    pub(crate) header: Vec<Header>,

    /// Send this token as `Authorization: Bearer TOKEN`
    ///
    /// It is never printed. Give it by the variable rather than by the flag: other users of the machine can read command
    /// lines.
    #[arg(long, env = "GENERATOR_BEARER", hide_env_values = true, value_name = "TOKEN", help_heading = help::REQUESTS)]
    #[arg(value_parser = Unquoted(Bearer::parse))]
    pub(crate) bearer: Option<Bearer>,

    /// Send a request again, up to so many times, when its outcome is not known; each with a key, so that it is stored once
    ///
    /// Every event (or batch) goes with a random `Idempotency-Key`, by which our server knows it again. After a time-out, a
    /// broken or refused connection, a 503, or another server error whose outcome is unknown, it is sent again with that
    /// key: after 100 ms, then twice as long each time, up to 5 s, for at most a minute. What counts is the last outcome;
    /// what may have been stored stays unknown until it is acknowledged. At most 100; only for our API.
    #[arg(long, env = "GENERATOR_RETRY", value_parser = values::parse_retry, allow_negative_numbers = true, value_name = "TIMES", help_heading = help::REQUESTS)]
    pub(crate) retry: Option<u32>,

    /// Write a line of JSON to this file for every event that must arrive, or may
    ///
    /// That is: for every acknowledged event, with its id if it is known, and for every event whose outcome could not be
    /// learnt (no answer in time, a broken connection, a server error). Refused events have no line. The file is emptied
    /// first. Events then carry publisher, sequence and send time, by which `listener --record` names them:
    /// what is acknowledged here and missing there was lost.
    #[arg(long, env = "GENERATOR_RECORD", value_name = "FILE", help_heading = help::OUTPUT)]
    pub(crate) record: Option<PathBuf>,

    /// Write the figures of the run to this file as JSON, also when it is stopped
    #[arg(long, env = "GENERATOR_REPORT", value_name = "FILE", help_heading = help::OUTPUT)]
    pub(crate) report: Option<PathBuf>,

    /// Print the status code of each answer at any rate
    ///
    /// Without it, they are printed up to 100 events a second. --print-status=false never prints them.
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

    /// How far the run is, on stderr
    #[arg(long, env = "GENERATOR_PROGRESS", value_enum, default_value_t, value_name = "STYLE", help_heading = help::OUTPUT)]
    pub(crate) progress: Progress,

    /// Print a script that completes the flags of this program in a shell, and end without sending anything
    #[arg(long, value_enum, value_name = "SHELL", help_heading = help::OUTPUT)]
    pub(crate) completions: Option<Shell>,
}

/// What `--payload` takes. The texts are the help's, which shows them as they are.
#[expect(clippy::doc_markdown, reason = "back-ticks would be shown in the help")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadKind {
    /// The tutorial's JSON string, "user_id: …, timestamp: …" (the default); with --record an object that carries it
    #[default]
    Tutorial,
    /// The least to measure with: {"publisher","sequence","sent_us"}, sent_us being when the event was due
    Sequenced,
    /// Simulated users with sessions: {"user_id","session_id","action","page","timestamp"}, timestamp being when the
    /// user acted, by the clock of the simulation (see --users)
    Session,
}
