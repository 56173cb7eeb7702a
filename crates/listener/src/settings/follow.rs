//! The settings for following a stream.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use sse_cli::switch::parse_switch;
use sse_proto::units::parse_positive_duration;

use super::{
    target::Target,
    values::{parse_count, parse_event_size},
};

/// How a stream is followed.
#[derive(Debug, Clone, Args)]
pub struct FollowSettings {
    /// What is asked for, and of whom.
    #[command(flatten)]
    pub target: Target,

    /// Keep the last event id in this file, and go on after it when the listener is started again
    ///
    /// The file is replaced whole, after the events were written to stdout: a listener that is killed sends those again
    /// that it had written and not noted yet, and loses none (at least once). When there is the file, it beats
    /// --last-event-id, --since and --last. Use a file for each stream.
    #[arg(long, env = "LISTENER_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,

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
    #[arg(
        long,
        env = "LISTENER_MAX_RETRIES",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub max_retries: Option<u64>,

    /// Fail on an event that is larger than this, like 512KiB or 16MiB
    ///
    /// It bounds the memory that a server can make the listener use. The names of its fields and its line ends count.
    #[arg(long, env = "LISTENER_MAX_EVENT_SIZE", value_parser = parse_event_size, default_value = "16MiB")]
    #[arg(value_name = "SIZE", allow_negative_numbers = true)]
    pub max_event_size: usize,

    /// End after this many events
    ///
    /// `gap` events do not count.
    #[arg(long, env = "LISTENER_COUNT", value_name = "N", value_parser = parse_count)]
    pub count: Option<NonZeroU64>,

    /// How to print an event
    #[arg(
        long,
        env = "LISTENER_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: Format,

    /// Print comments as well, by which servers show that they are there
    ///
    /// As text they are lines that begin with a colon, as JSON objects with the key comment. raw has them always.
    #[arg(long, env = "LISTENER_SHOW_COMMENTS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    #[arg(value_parser = parse_switch)]
    pub show_comments: bool,

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
    /// The data alone, and a line end
    Data,
    /// The bytes as they were received, as soon as a block is whole; what a cut leaves unfinished is left out
    Raw,
}

impl FollowSettings {
    /// Checks what a single flag cannot: combinations of settings.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.show_comments && self.format == Format::Data {
            return Err(
                "--format data has no place for comments: leave out --show-comments".to_owned(),
            );
        }
        self.target.check()
    }
}
