//! The grammar of the command line: every flag, its `SSE_` variable, its default and its help.
//! `docs/operations/settings.md` lists them all.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::Parser;
use sse_cli::switch::parse_switch;
use sse_proto::units::{parse_positive_duration, parse_size};

use super::{
    backup_args::BackupArgs,
    commands::Command,
    limit_args::LimitArgs,
    log_args::LogArgs,
    network_args::NetworkArgs,
    publish_args::PublishArgs,
    redis_args::RedisArgs,
    stream_args::StreamArgs,
    tls_args::TlsArgs,
    values::{parse_history_events, parse_positive},
};
use crate::broker::embedded::DataMode;

const AFTER_HELP: &str = "\
Examples:
  sse-server                                        keep events in ./sse-data
  sse-server --memory --bind 127.0.0.1:0            keep events in memory only, on any free port
  sse-server --redis-url redis://localhost          be one of many nodes on a Redis

  curl http://127.0.0.1:5000/event/click            publish an example
  curl -N http://127.0.0.1:5000/stream              subscribe

Every flag has a variable, and a key in the file of --config: --history-age is SSE_HISTORY_AGE and
history_age. A flag overrides a variable, and a variable the file. REDIS_URL counts as --redis-url
if nothing else chooses a broker.

Exit codes: 0 stopped by a signal, 1 failed, 2 misused.";

/// Receives events over HTTP and sends them to any number of readers over Server-Sent Events,
/// without loss
#[derive(Parser)]
#[command(
    name = "sse-server",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    /// Read settings from this TOML file; flags and variables override it
    ///
    /// `sse-server config print --example` prints a file with every key.
    #[arg(long, env = "SSE_CONFIG", value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) network: NetworkArgs,

    #[command(flatten)]
    pub(super) tls: TlsArgs,

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
    /// One client can create seven eighths of them, and is rejected (429) after that. A publish
    /// to one more is rejected (507), unless a channel whose events are all too old can
    /// be forgotten. Over Redis this takes up to a minute.
    #[arg(
        long,
        env = "SSE_CHANNELS_MAX",
        default_value = "1000000",
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

    #[command(flatten)]
    pub(super) backup: BackupArgs,

    #[command(flatten)]
    pub(super) publishing: PublishArgs,

    #[command(flatten)]
    pub(super) streams: StreamArgs,

    #[command(flatten)]
    pub(super) limits: LimitArgs,

    #[command(flatten)]
    pub(super) logging: LogArgs,
}
