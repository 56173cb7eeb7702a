//! The flags about Redis.

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;
use sse_proto::{Channel, units::parse_positive_duration};

use super::values::{parse_flask_channel, parse_positive};
use crate::broker::redis::parse_prefix;

/// The flags about Redis.
#[derive(Args)]
pub(super) struct RedisArgs {
    /// Keep the log in this Redis (6.2 or later), which many nodes can share
    #[arg(
        id = "redis_url",
        long = "redis-url",
        env = "SSE_REDIS_URL",
        hide_env_values = true
    )]
    #[arg(value_name = "URL", help_heading = "Broker")]
    pub(super) url: Option<String>,

    /// Prefix of all key names in Redis; systems with different prefixes do not see each other
    ///
    /// Up to 64 characters of A-Z a-z 0-9 . _ : ~ -
    #[arg(
        id = "redis_prefix",
        long = "redis-prefix",
        env = "SSE_REDIS_PREFIX",
        default_value = "sse:",
        value_name = "PREFIX",
        value_parser = parse_prefix,
        help_heading = "Broker"
    )]
    pub(super) prefix: String,

    /// Wait at most this long for a reply of Redis; then a publish is answered with 503
    ///
    /// A publish has this time for all its commands together.
    #[arg(
        id = "redis_timeout",
        long = "redis-timeout",
        env = "SSE_REDIS_TIMEOUT",
        default_value = "2s",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        help_heading = "Broker"
    )]
    pub(super) timeout: Duration,

    /// Follow at most this many channels at a time over Redis: those with open streams here
    ///
    /// One client (an IPv4 address, or the /64 of an IPv6 address) gets a quarter. A stream of more
    /// channels ends at once, like one beyond --streams-max. A followed channel takes about 5 KiB of memory.
    #[arg(
        id = "redis_followed_max",
        long = "redis-followed-max",
        env = "SSE_REDIS_FOLLOWED_MAX",
        default_value = "40000",
        value_name = "CHANNELS",
        value_parser = parse_positive,
        allow_negative_numbers = true,
        help_heading = "Broker"
    )]
    pub(super) followed_max: NonZeroUsize,

    /// Connect this channel with the channel of Flask-SSE of the same name (repeatable;
    /// comma-separated)
    ///
    /// Flask-SSE must use the Redis of --redis-url. Its channel is `sse` unless the application
    /// names another one, and `sse` is also the default of GET /stream. Up to 32 channels; all nodes
    /// should have the same ones. Not with a Redis Cluster.
    #[arg(
        id = "flask_sse",
        long = "flask-sse",
        env = "SSE_FLASK_SSE",
        value_name = "CHANNEL",
        value_delimiter = ',',
        value_parser = parse_flask_channel,
        help_heading = "Broker"
    )]
    pub(super) flask_sse: Vec<Channel>,
}
