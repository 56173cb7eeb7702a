//! Flags about streams. This is a part of the grammar in [`cli`](super::cli).

use std::{num::NonZeroUsize, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use sse_proto::units::{parse_duration, parse_positive_duration, parse_size};

use super::values::{parse_coalesce, parse_positive, parse_threads};

/// The flags.
#[derive(Args)]
pub(super) struct StreamArgs {
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

    /// Keep at most this many bytes of the newest events of all channels in memory
    ///
    /// Beyond this limit the channels with the oldest last event lose their oldest events in memory.
    /// Subscribers that need these events read them from history.
    #[arg(
        long,
        env = "SSE_TAILS_BYTES",
        default_value = "128MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Streams"
    )]
    pub(super) tails_bytes: ByteSize,

    /// Hold at most this many bytes for all streams whose clients read too slowly
    ///
    /// A stream whose connection is full holds the chunk that it could not write. Streams with the
    /// same chunk hold it once. Beyond this limit the stream that is furthest behind is closed, of
    /// the client whose streams hold most. The client reconnects with its last event id and loses
    /// nothing.
    #[arg(
        long,
        env = "SSE_BLOCKED_BYTES",
        default_value = "64MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Streams"
    )]
    pub(super) blocked_bytes: ByteSize,

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

    /// Keep at most this many streams open [default: nine tenths of the connections that the
    /// system allows]
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

    /// End each stream after a random 80 to 100 % of this time; its client reconnects
    ///
    /// Clients then spread over all nodes again, for example after a node was added.
    #[arg(
        long,
        env = "SSE_STREAM_LIFE",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "Streams"
    )]
    pub(super) stream_life: Option<Duration>,

    /// After SIGTERM, end the streams one after another during this time, and stop then
    ///
    /// Meanwhile /health/ready is 503, publishes work, and a new stream ends at once. SIGINT or a
    /// second signal ends the server immediately.
    #[arg(
        long,
        env = "SSE_DRAIN",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = parse_duration,
        help_heading = "Streams"
    )]
    pub(super) drain: Duration,

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

    /// Collect the events of a busy channel for at most this time (0 to 100ms) and send them as one
    /// write
    ///
    /// The first event after a pause is sent immediately. A channel with few subscribers collects for
    /// a fraction of the time. A longer time needs fewer writes, and so less CPU, at high rates.
    #[arg(
        long,
        env = "SSE_COALESCE",
        default_value = "5ms",
        value_name = "DURATION",
        value_parser = parse_coalesce,
        help_heading = "Streams"
    )]
    pub(super) coalesce: Duration,
}
