//! The flags about publishing: sizes, memory and idempotency keys.

use std::{num::NonZeroUsize, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use sse_proto::units::{parse_positive_duration, parse_size};

use super::values::parse_positive;

/// The flags about publishing.
#[derive(Args)]
pub(super) struct PublishArgs {
    /// Reject an event with more data than this (413)
    ///
    /// The data count as published and as encoded for streams, where each line end takes 7 bytes.
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
    /// accepted. One client can use seven eighths of them: with the defaults, 1295 new keys per
    /// second continuously. A batch can use one key for all its events. A key takes about 180 bytes
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

    /// Remember at most this many bytes of idempotency keys, of all channels together
    ///
    /// A key counts as 256 bytes. A publish with one more is rejected (503) until a key expires. One
    /// client can use seven eighths. Over Redis, its maxmemory is the limit.
    #[arg(
        long,
        env = "SSE_IDEMPOTENCY_BYTES",
        default_value = "256MiB",
        value_name = "SIZE",
        value_parser = parse_size,
        help_heading = "Publishing"
    )]
    pub(super) idempotency_bytes: ByteSize,
}
