//! The settings for following a stream.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use reqwest::StatusCode;
use sse_cli::switch::parse_switch;
use sse_proto::units::parse_positive_duration;

use super::{
    exec::ExecSettings,
    target::Target,
    values::{parse_count, parse_event_size, parse_retried_status, parse_whole_number},
};

/// The settings for following a stream.
#[derive(Debug, Clone, Args)]
pub struct FollowSettings {
    /// The request, and the servers that it is sent to.
    #[command(flatten)]
    pub target: Target,

    /// Store the last event id in this file, and resume after it at the next start
    ///
    /// The file is replaced after the events were written to stdout. After a crash, the listener
    /// prints events again that it had printed but not stored yet, and loses none (at-least-once
    /// delivery). An existing file overrides --last-event-id, --since and --last. Each stream needs
    /// a file of its own: a file of another --url or --channel is rejected.
    #[arg(long, env = "LISTENER_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Reconnect after this long without any bytes from the server
    ///
    /// This detects a server or a network that fails without closing the connection. The time
    /// should span several heartbeats of the server; the default spans three of sse-server. It also
    /// limits the wait for a response.
    #[arg(long, env = "LISTENER_IDLE_TIMEOUT", value_parser = parse_positive_duration, default_value = "45s")]
    #[arg(value_name = "DURATION", allow_negative_numbers = true)]
    pub idle_timeout: Duration,

    /// Give up after this many retries in a row; by default, retry forever
    ///
    /// With 0 there is a single attempt, and no reconnect. An event, or a stream that was open for
    /// 5s, resets the count. A stream that ends earlier counts as a failure.
    #[arg(
        long,
        env = "LISTENER_MAX_RETRIES",
        value_name = "N",
        value_parser = parse_whole_number,
        allow_negative_numbers = true
    )]
    pub max_retries: Option<u64>,

    /// Retry after a response with this status, like 404, instead of giving up; may be repeated
    ///
    /// Several statuses can be separated by commas. Use it for a stream that is created later, or
    /// behind a proxy that responds with 404 while the server restarts. The statuses 408, 429 and
    /// 5xx are always retried. `Retry-After` and --max-retries apply.
    #[arg(
        long,
        env = "LISTENER_RETRY_STATUS",
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = parse_retried_status
    )]
    pub retry_status: Vec<StatusCode>,

    /// Connect to the unix socket at this path; --url still sets the path and the host of requests
    #[arg(long, env = "LISTENER_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,

    /// Fail on an event that is larger than this, like 512KiB or 16MiB
    ///
    /// The limit bounds the memory that a server can make the listener use. Field names and line
    /// ends count.
    #[arg(long, env = "LISTENER_MAX_EVENT_SIZE", value_parser = parse_event_size, default_value = "16MiB")]
    #[arg(value_name = "SIZE", allow_negative_numbers = true)]
    pub max_event_size: usize,

    /// Exit after this many events
    ///
    /// `gap` events do not count.
    #[arg(long, env = "LISTENER_COUNT", value_name = "N", value_parser = parse_count)]
    pub count: Option<NonZeroU64>,

    /// Exit when all followed channels have ended, after the event `end` of each
    ///
    /// The server sends it when a channel is closed or deleted.
    #[arg(long, env = "LISTENER_UNTIL_END", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_switch)]
    pub until_end: bool,

    /// The command that handles events.
    #[command(flatten)]
    pub exec: ExecSettings,

    /// How to print an event
    #[arg(
        long,
        env = "LISTENER_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: Format,

    /// Also print comments, which servers send as heartbeats
    ///
    /// In text format a comment is a line that begins with a colon; in JSON format it is an object
    /// with the key comment. The raw format always contains comments.
    #[arg(long, env = "LISTENER_SHOW_COMMENTS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_switch)]
    pub show_comments: bool,

    /// Record what was received in this file, one JSON object per line
    ///
    /// The file is emptied at the start. A line contains the id, the type and the time of receipt
    /// of an event, and the publisher's stamp if the data has one (`event-generator --stamp`).
    /// Gaps have lines of their own. Compared with the generator's record, the file shows which
    /// events were lost.
    #[arg(long, env = "LISTENER_RECORD", value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// The format of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Two lines per event: `event: click ` and `data: …`
    Text,
    /// One JSON object per line, with the keys id, event and data
    Json,
    /// The data, and a line end
    Data,
    /// The bytes as received, block by block; a block that a cut leaves unfinished is omitted
    Raw,
}

impl FollowSettings {
    /// Checks what a single flag cannot: combinations of settings.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.show_comments && self.format == Format::Data {
            return Err("--format data has no place for comments: omit --show-comments".to_owned());
        }
        if self.exec.exec.is_some() && (self.format != Format::Text || self.show_comments) {
            return Err("--exec prints no events: omit --format and --show-comments".to_owned());
        }
        self.exec.give_up()?;
        self.target.check()
    }
}
