//! Which broker the settings choose.
//!
//! A flag overrides an `SSE_` variable, which overrides the configuration file, which overrides
//! `REDIS_URL`, which platforms set for all programs. For example, `SSE_MEMORY=1` in the environment and `--data-dir events` on the command
//! line choose the directory. Two choices of the same rank are an error.

use std::{fmt, path::PathBuf, time::Duration};

use sse_proto::Channel;

use super::{cli::Args, environment::GivenSettings, sources::Source};
use crate::broker::{embedded::DataMode, redis::RedisLogin};

/// A broker and its own settings.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerKind {
    /// The embedded log in a directory.
    Directory {
        /// `--data-dir`
        path: PathBuf,
        /// Permissions of what is created there.
        mode: DataMode,
        /// Bytes of the disk that stay free.
        disk_reserve: u64,
    },
    /// A log in the memory of this process.
    Memory,
    /// Redis.
    Redis {
        /// May contain a password.
        url: String,
        /// Accounts and certificates.
        login: Box<RedisLogin>,
        /// Begins the names of all keys.
        prefix: String,
        /// Time for a reply.
        timeout: Duration,
        /// Whether keys of an older format are converted.
        upgrades: bool,
        /// Replicas that must confirm a publish.
        wait: u32,
        /// Channels that a node follows at a time.
        followed_max: usize,
        /// Channels that are bridged to Flask-SSE.
        flask_sse: Vec<Channel>,
    },
}

impl BrokerKind {
    /// The broker's name in the response of `/health/ready`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "embedded log",
            Self::Memory => "memory",
            Self::Redis { .. } => "Redis",
        }
    }
}

impl fmt::Debug for BrokerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may contain a password.
        f.write_str(self.name())
    }
}

/// The broker, and what chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// The broker.
    pub kind: BrokerKind,
    /// A flag, a variable, a key of the configuration file, or `the default`.
    pub chosen_by: String,
}

/// A way to choose a broker: a flag, and the variable and key of the same name.
struct Choice {
    /// The id of the argument in clap, and the key.
    id: &'static str,
    flag: &'static str,
    variable: &'static str,
    /// `SSE_MEMORY=0` has a value, but chooses nothing.
    is_on: bool,
    kind: BrokerKind,
}

impl Choice {
    /// Returns the name of what chooses this broker, if it has this rank.
    fn chosen_by(&self, given: &GivenSettings, rank: Rank) -> Option<String> {
        let source = Source::of(self.id, &given.matches, &given.file);
        let name = match (rank, source) {
            (Rank::Flag, Source::Flag) => self.flag.to_owned(),
            (Rank::Variable, Source::Variable) => self.variable.to_owned(),
            (Rank::File, Source::File(_)) => {
                format!("{} in {}", self.id, given.file.path().display())
            }
            _ => return None,
        };
        self.is_on.then_some(name)
    }
}

/// Where a choice is made. The first one that chooses overrides the others.
#[derive(Debug, Clone, Copy)]
enum Rank {
    Flag,
    Variable,
    File,
}

/// Chooses the broker.
///
/// # Errors
///
/// Two flags, two variables or two keys choose different brokers.
pub(super) fn choose(given: &GivenSettings) -> Result<BrokerConfig, String> {
    let choices = choices(&given.args);
    for rank in [Rank::Flag, Rank::Variable, Rank::File] {
        let mut chosen = choices
            .iter()
            .filter_map(|choice| Some((choice.chosen_by(given, rank)?, choice)));
        let Some((chosen_by, choice)) = chosen.next() else {
            continue;
        };
        if let Some((other, _)) = chosen.next() {
            return Err(describe_conflict(&chosen_by, &other));
        }
        let kind = choice.kind.clone();
        return Ok(BrokerConfig { kind, chosen_by });
    }
    Ok(default_broker(&given.args))
}

/// Returns a warning for each flag that shows a password to every user of the machine.
pub(super) fn visible_passwords(given: &GivenSettings) -> impl Iterator<Item = String> {
    let flags = [
        ("redis_password", "redis-password", "SSE_REDIS_PASSWORD"),
        (
            "redis_sentinel_password",
            "redis-sentinel-password",
            "SSE_REDIS_SENTINEL_PASSWORD",
        ),
    ];
    flags
        .into_iter()
        .filter(|(id, ..)| Source::of(id, &given.matches, &given.file) == Source::Flag)
        .map(|(_, flag, variable)| {
            format!(
                "the password in --{flag} is visible to every user of this machine; use the \
                 variable {variable}"
            )
        })
}

fn describe_conflict(one: &str, other: &str) -> String {
    format!("{one} and {other} choose different brokers: give one of them")
}

fn choices(args: &Args) -> [Choice; 3] {
    [
        Choice {
            id: "data_dir",
            flag: "--data-dir",
            variable: "SSE_DATA_DIR",
            is_on: true,
            kind: directory(args),
        },
        Choice {
            id: "memory",
            flag: "--memory",
            variable: "SSE_MEMORY",
            is_on: args.memory,
            kind: BrokerKind::Memory,
        },
        Choice {
            id: "redis_url",
            flag: "--redis-url",
            variable: "SSE_REDIS_URL",
            is_on: args.redis.url.is_some(),
            kind: redis(args, args.redis.url.clone().unwrap_or_default()),
        },
    ]
}

/// The broker if neither a flag, nor an `SSE_` variable, nor the file chooses one.
fn default_broker(args: &Args) -> BrokerConfig {
    let (kind, chosen_by) = match default_redis_url() {
        Some(url) => (redis(args, url), "REDIS_URL"),
        None => (directory(args), "the default"),
    };
    BrokerConfig {
        kind,
        chosen_by: chosen_by.to_owned(),
    }
}

fn default_redis_url() -> Option<String> {
    let url = std::env::var("REDIS_URL").ok();
    url.filter(|url| !url.is_empty())
}

fn directory(args: &Args) -> BrokerKind {
    BrokerKind::Directory {
        path: args.data_dir.clone(),
        mode: args.data_mode,
        disk_reserve: args.disk_reserve.0,
    }
}

fn redis(args: &Args, url: String) -> BrokerKind {
    BrokerKind::Redis {
        url,
        login: Box::new(args.redis.login()),
        prefix: args.redis.prefix.clone(),
        timeout: args.redis.timeout,
        upgrades: args.redis.upgrade,
        wait: args.redis.wait,
        followed_max: args.redis.followed_max.get(),
        flask_sse: args.redis.flask_sse.clone(),
    }
}
