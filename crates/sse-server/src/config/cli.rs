//! The grammar of the command line: every flag, its `SSE_` variable, its default and its help.
//! `docs/operations/settings.md` lists them all.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::Parser;
use sse_cli::switch::parse_switch;
use sse_proto::units::{parse_duration, parse_positive_duration, parse_size};

use super::{
    log_args::LogArgs,
    network_args::NetworkArgs,
    redis_args::RedisArgs,
    values::{parse_coalesce, parse_history_events, parse_positive, parse_threads},
};
use crate::broker::embedded::DataMode;

const AFTER_HELP: &str = "\
Examples:
  sse-server                                        keep events in ./sse-data
  sse-server --memory --bind 127.0.0.1:0            keep events in memory only, on any free port
  sse-server --redis-url redis://localhost          be one of many nodes on a Redis

  curl http://127.0.0.1:5000/event/click            publish an example
  curl -N http://127.0.0.1:5000/stream              subscribe

Every flag has a variable: --history-age is SSE_HISTORY_AGE. REDIS_URL counts as --redis-url if
neither a flag nor an SSE_ variable chooses a broker.

Exit codes: 0 stopped by a signal, 1 failed, 2 misused.";

/// Receives events over HTTP and sends them to any number of readers over Server-Sent Events,
/// without loss
#[derive(Parser)]
#[command(name = "sse-server", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) network: NetworkArgs,

    /// Keep the log in this directory
    #[arg(
        long,
        env = "SSE_DATA_DIR",
        default_value = "./sse-data",
        value_name = "DIRECTORY",
        help_heading = "Broker"
    )]
    pub(super) data_dir: PathBuf,

    /// Permissions of the data directory and its files: 0700, 0750 or 0770
    ///
    /// They apply to what is created. A directory or file that exists keeps its permissions, and a
    /// warning is logged if they are wider. Files are never executable.
    #[arg(
        long,
        env = "SSE_DATA_MODE",
        default_value = "0700",
        value_name = "MODE",
        help_heading = "Broker"
    )]
    pub(super) data_mode: DataMode,

    /// Keep the log in memory only
    #[arg(long, env = "SSE_MEMORY", value_parser = parse_switch, help_heading = "Broker")]
    pub(super) memory: bool,

    #[command(flatten)]
    pub(super) redis: RedisArgs,

    /// Keep this many of a channel's newest events; older ones are trimmed
    #[arg(
        long,
        env = "SSE_HISTORY_EVENTS",
        default_value = "100000",
        value_name = "EVENTS",
        value_parser = parse_history_events,
        allow_negative_numbers = true,
        help_heading = "History"
    )]
    pub(super) history_events: NonZeroUsize,

    /// Keep events for this time; the newest event of a channel stays
    #[arg(
        long,
        env = "SSE_HISTORY_AGE",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "History"
    )]
    pub(super) history_age: Duration,

    /// Keep at most this many bytes of all channels together; the oldest events are trimmed
    ///
    /// Over Redis, its maxmemory is the limit.
    #[arg(
        long,
        env = "SSE_HISTORY_BYTES",
        default_value = "1GiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "History"
    )]
    pub(super) history_bytes: ByteSize,

    /// Keep at most this many channels
    ///
    /// A publish to one more is rejected (507), unless a channel whose events are all too old can
    /// be forgotten. Over Redis this takes up to a minute.
    #[arg(
        long,
        env = "SSE_CHANNELS_MAX",
        default_value = "10000",
        value_name = "CHANNELS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = "History"
    )]
    pub(super) channels_max: NonZeroUsize,

    /// Keep this much of the disk free: below it a publish is rejected (507), while trimming
    /// continues
    #[arg(
        long,
        env = "SSE_DISK_RESERVE",
        default_value = "64MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "History"
    )]
    pub(super) disk_reserve: ByteSize,

    /// Reject an event with more data than this (413)
    #[arg(
        long,
        env = "SSE_EVENT_BYTES_MAX",
        default_value = "1MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Publishing"
    )]
    pub(super) event_bytes_max: ByteSize,

    /// Reject a batch with a larger body than this (413)
    #[arg(
        long,
        env = "SSE_BATCH_BYTES_MAX",
        default_value = "16MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Publishing"
    )]
    pub(super) batch_bytes_max: ByteSize,

    /// Reject a batch with more events than this (413)
    #[arg(
        long,
        env = "SSE_BATCH_EVENTS_MAX",
        default_value = "10000",
        value_name = "EVENTS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = "Publishing"
    )]
    pub(super) batch_events_max: NonZeroUsize,

    /// Use at most this much memory for the bodies of publishes in progress
    ///
    /// One more body waits up to 5 s for memory; then it is rejected (503).
    #[arg(
        long,
        env = "SSE_PUBLISH_MEMORY",
        default_value = "256MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Publishing"
    )]
    pub(super) publish_memory: ByteSize,

    /// Remember the Idempotency-Key of a publish for this time
    ///
    /// A publish that is repeated with its key within this time is answered with its first id, and
    /// adds nothing. A key keeps the time that it got when it arrived, also across a restart.
    #[arg(
        long,
        env = "SSE_IDEMPOTENCY_WINDOW",
        default_value = "10m",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "Publishing"
    )]
    pub(super) idempotency_window: Duration,

    /// Remember at most this many idempotency keys per channel
    ///
    /// A publish with one more is rejected (503) until a key expires; a publish without a key is
    /// accepted. So a channel accepts this many keys per window: with the defaults, 1666 per second
    /// continuously. A batch can use one key for all its events. A key takes about 180 bytes
    /// on disk, or 280 bytes of Redis' memory.
    #[arg(
        long,
        env = "SSE_IDEMPOTENCY_KEYS",
        default_value = "1000000",
        value_name = "KEYS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = "Publishing"
    )]
    pub(super) idempotency_keys: NonZeroUsize,

    /// Keep this many of a channel's newest events in memory
    ///
    /// Subscribers inside this tail are served without reading the log. A subscriber that falls
    /// behind the tail is served from history until it has caught up. An event costs its frame, for
    /// all subscribers together, and once more if one of them wants envelopes. Only channels with
    /// open streams have a tail.
    #[arg(
        long,
        env = "SSE_TAIL_EVENTS",
        default_value = "1024",
        value_name = "EVENTS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = "Streams"
    )]
    pub(super) tail_events: NonZeroUsize,

    /// Keep at most this many bytes of a channel's newest events in memory
    #[arg(
        long,
        env = "SSE_TAIL_BYTES",
        default_value = "8MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Streams"
    )]
    pub(super) tail_bytes: ByteSize,

    /// Send a comment on a stream that was silent for this time, so that no proxy closes it
    #[arg(
        long,
        env = "SSE_HEARTBEAT",
        default_value = "15s",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "Streams"
    )]
    pub(super) heartbeat: Duration,

    /// Make subscribers wait this long before they reconnect
    #[arg(
        long,
        env = "SSE_RETRY",
        default_value = "3s",
        value_name = "DURATION",
        value_parser = parse_duration,
        help_heading = "Streams"
    )]
    pub(super) retry: Duration,

    /// Keep at most this many streams open [default: nine tenths of the open files that the system
    /// allows]
    ///
    /// One more is answered with a stream that ends at once and contains the time after which a
    /// browser reconnects. After an error status a browser would never reconnect. At most a further
    /// tenth get such a stream at the same time; connections beyond that are closed without a
    /// response.
    #[arg(long, env = "SSE_STREAMS_MAX", value_parser = parse_positive)]
    #[arg(
        value_name = "STREAMS",
        help_heading = "Streams",
        allow_negative_numbers = true
    )]
    pub(super) streams_max: Option<NonZeroUsize>,

    /// Close a stream whose client has accepted no data for this long
    ///
    /// The client reconnects with its last event id and loses nothing. A client that may
    /// have unread data gets extra time: as long as reading it at 1 KB/s takes, at most four and a
    /// half minutes. A client that vanished from the network is closed at most one minute after
    /// this time, or at most five minutes after it vanished if it had stopped reading.
    #[arg(
        long,
        env = "SSE_WRITE_TIMEOUT",
        default_value = "60s",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "Streams"
    )]
    pub(super) write_timeout: Duration,

    /// Write to streams with this many threads [default: half the cores, at least 1]
    ///
    /// With 0, streams stay with the threads that answer HTTP: each stream takes about 12 KB more,
    /// and many streams slow down publishing.
    #[arg(long, env = "SSE_FANOUT_THREADS", value_parser = parse_threads)]
    #[arg(
        value_name = "THREADS",
        help_heading = "Streams",
        allow_negative_numbers = true
    )]
    pub(super) fanout_threads: Option<usize>,

    /// While a channel is busy, collect its events for this time (0 to 100ms) and send them as one
    /// write
    ///
    /// The first event after a pause is sent immediately. A longer time needs fewer writes, and so
    /// less CPU, at high rates.
    #[arg(
        long,
        env = "SSE_COALESCE",
        default_value = "5ms",
        value_name = "DURATION",
        value_parser = parse_coalesce,
        help_heading = "Streams"
    )]
    pub(super) coalesce: Duration,

    #[command(flatten)]
    pub(super) logging: LogArgs,
}
