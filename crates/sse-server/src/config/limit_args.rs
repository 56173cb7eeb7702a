//! Flags about what one client may use. This is a part of the grammar in [`cli`](super::cli).

use std::num::NonZeroUsize;

use clap::Args;

use super::values::parse_positive;
use crate::quota::{Limits, Rate};

const HEADING: &str = "Limits of one client on this node";

/// The flags. Each one is off by default.
#[derive(Args)]
pub(super) struct LimitArgs {
    /// Let one client publish this many events per s, m or h, such as 100/s
    ///
    /// A client is an IPv4 address, or the /64 of an IPv6 address, behind a --trusted-proxy too. It
    /// can use the whole number at once. Beyond it, a publish is rejected (429) with the time to
    /// wait. A batch with more events is rejected (413).
    #[arg(
        id = "limit_events",
        long = "limit-events",
        env = "SSE_LIMIT_EVENTS",
        value_name = "RATE",
        value_parser = Rate::parse_count,
        help_heading = HEADING
    )]
    events: Option<Rate>,

    /// Let one client publish this many bytes per s, m or h, such as 1MiB/s
    ///
    /// The bodies of requests count. Beyond the limit, a publish is rejected (429) with the time to
    /// wait. A body of more bytes is rejected (413).
    #[arg(
        id = "limit_bytes",
        long = "limit-bytes",
        env = "SSE_LIMIT_BYTES",
        value_name = "RATE",
        value_parser = Rate::parse_bytes,
        help_heading = HEADING
    )]
    bytes: Option<Rate>,

    /// Let one client have this many streams open at the same time
    ///
    /// One more stream ends at once and names a time to reconnect.
    #[arg(
        id = "limit_streams",
        long = "limit-streams",
        env = "SSE_LIMIT_STREAMS",
        value_name = "STREAMS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = HEADING
    )]
    streams: Option<NonZeroUsize>,

    /// Let one client open this many streams per s, m or h, such as 10/s
    ///
    /// Beyond the limit, a stream ends at once and names a time to reconnect.
    #[arg(
        id = "limit_opens",
        long = "limit-opens",
        env = "SSE_LIMIT_OPENS",
        value_name = "RATE",
        value_parser = Rate::parse_count,
        help_heading = HEADING
    )]
    opens: Option<Rate>,

    /// Let one client create this many channels per s, m or h, such as 10/s
    ///
    /// The first publish to a channel creates it, and so does a PUT or a close. Beyond the limit, such
    /// a request is rejected (429).
    #[arg(
        id = "limit_channels",
        long = "limit-channels",
        env = "SSE_LIMIT_CHANNELS",
        value_name = "RATE",
        value_parser = Rate::parse_count,
        help_heading = HEADING
    )]
    channels: Option<Rate>,

    /// Let one client search this often per s, m or h, such as 5/s
    ///
    /// A search is a request for history or for a list of channels, a stream with last=, or one with
    /// event= and since= or from=oldest. Beyond the limit, a request is rejected (429), and a stream
    /// ends at once.
    #[arg(
        id = "limit_searches",
        long = "limit-searches",
        env = "SSE_LIMIT_SEARCHES",
        value_name = "RATE",
        value_parser = Rate::parse_count,
        help_heading = HEADING
    )]
    searches: Option<Rate>,
}

impl LimitArgs {
    pub(super) const fn limits(&self) -> Limits {
        Limits {
            events: self.events,
            bytes: self.bytes,
            streams: self.streams,
            opens: self.opens,
            channels: self.channels,
            searches: self.searches,
        }
    }
}
