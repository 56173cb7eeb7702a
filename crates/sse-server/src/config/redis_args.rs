//! The flags about Redis.

use std::{convert::Infallible, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::Args;
use sse_proto::{Channel, units::parse_positive_duration};

use sse_cli::switch::parse_switch;

use super::values::{parse_flask_channel, parse_positive};
use crate::broker::redis::{Account, Password, RedisLogin, TlsFiles, parse_prefix};

/// The flags about Redis.
#[derive(Args)]
pub(super) struct RedisArgs {
    /// Keep the log in this Redis (6.2 or later), which many nodes can share
    ///
    /// One of `redis://[user:password@]host[:port][/database]`, `redis+unix:///path/to/socket`,
    /// `redis+sentinel://[user:password@]host[:26379],…/primary[/database]` and
    /// `redis+cluster://[user:password@]host[:6379],…`. With `rediss` instead of `redis` the
    /// connections use TLS.
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

    /// Convert the keys of an older version in Redis, once all nodes of older versions are stopped
    ///
    /// Without it, a node refuses to start on keys of an older format. Later starts do not need it.
    #[arg(
        id = "redis_upgrade",
        long = "redis-upgrade",
        env = "SSE_REDIS_UPGRADE",
        value_parser = parse_switch,
        help_heading = "Broker"
    )]
    pub(super) upgrade: bool,

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

    /// Acknowledge a publish only when this many replicas of Redis have it
    ///
    /// They have four fifths of --redis-timeout. If fewer confirm, the response is 503
    /// `outcome_unknown`, and the event stays in the log.
    #[arg(
        id = "redis_wait",
        long = "redis-wait",
        env = "SSE_REDIS_WAIT",
        default_value = "0",
        value_name = "REPLICAS",
        value_parser = clap::value_parser!(u32).range(0..=100),
        help_heading = "Broker"
    )]
    pub(super) wait: u32,

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

    #[command(flatten)]
    login: LoginArgs,
}

/// The flags about accounts and certificates.
#[derive(Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the flags come from these names"
)]
struct LoginArgs {
    /// Log in at Redis as this user (ACL); the password needs a setting of its own
    #[arg(
        long,
        env = "SSE_REDIS_USER",
        value_name = "NAME",
        help_heading = "Broker"
    )]
    redis_user: Option<String>,

    /// Log in at Redis with this password
    ///
    /// Every user of the machine can see a flag: use the variable, or --redis-password-file.
    #[arg(long, env = "SSE_REDIS_PASSWORD", hide_env_values = true)]
    #[arg(value_parser = parse_password, value_name = "PASSWORD", help_heading = "Broker")]
    redis_password: Option<Password>,

    /// Log in at Redis with the password in the first line of this file
    #[arg(
        long,
        env = "SSE_REDIS_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Broker"
    )]
    redis_password_file: Option<PathBuf>,

    /// Log in at the sentinels as this user (ACL)
    ///
    /// The user and the password in --redis-url are those of Redis.
    #[arg(
        long,
        env = "SSE_REDIS_SENTINEL_USER",
        value_name = "NAME",
        help_heading = "Broker"
    )]
    redis_sentinel_user: Option<String>,

    /// Log in at the sentinels with this password
    ///
    /// Every user of the machine can see a flag: use the variable, or
    /// --redis-sentinel-password-file.
    #[arg(long, env = "SSE_REDIS_SENTINEL_PASSWORD", hide_env_values = true)]
    #[arg(value_parser = parse_password, value_name = "PASSWORD", help_heading = "Broker")]
    redis_sentinel_password: Option<Password>,

    /// Log in at the sentinels with the password in the first line of this file
    #[arg(
        long,
        env = "SSE_REDIS_SENTINEL_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Broker"
    )]
    redis_sentinel_password_file: Option<PathBuf>,

    /// Trust the authorities in this PEM file for TLS to Redis, instead of those of the system
    #[arg(
        long,
        env = "SSE_REDIS_CA",
        value_name = "FILE",
        help_heading = "Broker"
    )]
    redis_ca: Option<PathBuf>,

    /// Present this certificate to Redis: a PEM file
    #[arg(
        long,
        env = "SSE_REDIS_CERT",
        value_name = "FILE",
        help_heading = "Broker"
    )]
    redis_cert: Option<PathBuf>,

    /// Use this private key for the certificate of --redis-cert: a PEM file
    #[arg(
        long,
        env = "SSE_REDIS_KEY",
        value_name = "FILE",
        help_heading = "Broker"
    )]
    redis_key: Option<PathBuf>,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers may fail")]
fn parse_password(text: &str) -> Result<Password, Infallible> {
    Ok(Password::new(text.to_owned()))
}

impl RedisArgs {
    /// Returns the accounts and the certificates.
    pub(super) fn login(&self) -> RedisLogin {
        let login = &self.login;
        RedisLogin {
            redis: Account {
                user: login.redis_user.clone(),
                password: login.redis_password.clone(),
                password_file: login.redis_password_file.clone(),
            },
            sentinels: Account {
                user: login.redis_sentinel_user.clone(),
                password: login.redis_sentinel_password.clone(),
                password_file: login.redis_sentinel_password_file.clone(),
            },
            tls: TlsFiles {
                ca: login.redis_ca.clone(),
                certificate: login.redis_cert.clone(),
                key: login.redis_key.clone(),
            },
        }
    }
}
