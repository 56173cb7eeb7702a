//! Flags about what one client may use. This is a part of the grammar in [`cli`](super::cli).

use std::num::NonZeroUsize;

use clap::Args;

use super::values::parse_positive;
use crate::quota::{Limits, Rate};

/// The flags. Each one is off by default.
#[derive(Args)]
#[command(next_help_heading = "Limits of one client, each on one node")]
pub(super) struct LimitArgs {
    /// Let one client publish this many events per s, m or h, such as 100/s
    ///
    /// A client is an IPv4 address, or the /64 of an IPv6 address, behind a --trusted-proxy too. It
    /// can use the whole number at once. Beyond it, a publish is rejected (429) with the time to
    /// wait. A batch with more events is rejected (413).
    #[arg(long, env = "SSE_LIMIT_EVENTS", value_name = "RATE", value_parser = Rate::parse_count)]
    limit_events: Option<Rate>,

    /// Let one client publish this many bytes per s, m or h, such as 1MiB/s
    ///
    /// The bodies of requests count. Beyond the limit, a publish is rejected (429) with the time to
    /// wait. A body of more bytes is rejected (413).
    #[arg(long, env = "SSE_LIMIT_BYTES", value_name = "RATE", value_parser = Rate::parse_bytes)]
    limit_bytes: Option<Rate>,

    /// Let one client have this many streams open at the same time
    ///
    /// One more stream ends at once and names a time to reconnect.
    #[arg(
        long,
        env = "SSE_LIMIT_STREAMS",
        value_name = "STREAMS",
        value_parser = parse_positive,
        allow_negative_numbers = true
    )]
    limit_streams: Option<NonZeroUsize>,

    /// Let one client open this many streams per s, m or h, such as 10/s
    ///
    /// Beyond the limit, a stream ends at once and names a time to reconnect.
    #[arg(long, env = "SSE_LIMIT_OPENS", value_name = "RATE", value_parser = Rate::parse_count)]
    limit_opens: Option<Rate>,

    /// Let one client create this many channels per s, m or h, such as 10/s
    ///
    /// The first publish to a channel creates it. Beyond the limit, such a publish is rejected (429).
    #[arg(long, env = "SSE_LIMIT_CHANNELS", value_name = "RATE", value_parser = Rate::parse_count)]
    limit_channels: Option<Rate>,

    /// Let one client search this often per s, m or h, such as 5/s
    ///
    /// A search is a request for history, or a stream with last=, or with a filter and a start.
    /// Beyond the limit, history is rejected (429), and a stream ends at once.
    #[arg(long, env = "SSE_LIMIT_SEARCHES", value_name = "RATE", value_parser = Rate::parse_count)]
    limit_searches: Option<Rate>,
}

impl LimitArgs {
    pub(super) const fn limits(&self) -> Limits {
        Limits {
            events: self.limit_events,
            bytes: self.limit_bytes,
            streams: self.limit_streams,
            opens: self.limit_opens,
            channels: self.limit_channels,
            searches: self.limit_searches,
        }
    }
}
