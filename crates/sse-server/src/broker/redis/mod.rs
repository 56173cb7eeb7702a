//! The Redis broker: each channel is a Redis Stream, so any number of nodes serve the same channels.
//!
//! An event is as durable as that Redis is set up to be. Nodes hold no state that subscribers depend on.
//!
//! | file | holds |
//! |---|---|
//! | `connection` | one supervised connection for commands: reconnects for ever, never resends |
//! | `streams` | streams: append, read, head |
//! | `idempotency` | streams: append what has a key |
//! | `losses` | finds out that Redis lost acknowledged events, and says so in the log |
//! | `durability` | whether Redis is set up to keep what it acknowledges |
//! | `pubsub` | one supervised connection for wake-ups, and a safety look in case one is lost |
//! | `retention` | trims by age and forgets dead channels |

mod connection;
mod durability;
mod failover;
mod idempotency;
mod pubsub;
mod retention;
mod streams;

use std::{sync::Arc, time::Duration};

use redis::{Client, ConnectionInfo, IntoConnectionInfo, io::tcp::TcpSettings};
use sse_proto::{Channel, Event, EventId, api::Gap};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{connection::Connection, failover::LossDetector, streams::Log};
use super::{
    Appended, BackPage, BrokerError, Page, PageLimits, ReadFrom, Retention, Settled, Warning,
    idempotency::{AppendItem, AppendOutcome},
    notify::ChangeNotifier,
};
use crate::metrics::Metrics;

/// A handle on the streams; clones share it. Its tasks end with the last clone.
#[derive(Debug, Clone)]
pub struct RedisBroker {
    log: Arc<Log>,
    notifier: ChangeNotifier,
    followed_changed: Arc<tokio::sync::Notify>,
    metrics: Metrics,
    _tasks: Arc<DropGuard>,
}

/// Where events are kept.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The URL of the Redis.
    pub url: &'a str,
    /// With what the names of all keys begin; see [`parse_prefix`].
    pub prefix: &'a str,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 64;

/// A prefix of the names of keys. Whatever two prefixes are, no name with one is a name with the other.
///
/// # Errors
/// What is wrong with it. A brace would change the hash tag of a name, by which a cluster places it.
pub fn parse_prefix(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte);
    if text.len() > PREFIX_BYTES_MAX || !text.bytes().all(is_allowed) {
        return Err(format!(
            "a prefix is up to {PREFIX_BYTES_MAX} of the characters A-Z a-z 0-9 . _ : ~ -"
        ));
    }
    Ok(text.to_owned())
}

/// Why Redis cannot be used at all. (That it is away is no such reason.)
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    /// The URL is not one of Redis.
    #[error("{url:?} is not a Redis URL: write redis://[user:password@]host[:port][/database]")]
    Url {
        /// As it was given, without its password.
        url: String,
    },
    /// The server is too old.
    #[error("the Redis at {address} is version {found}, and 6.2 is the oldest that will do")]
    TooOld {
        /// Where it is.
        address: String,
        /// Its version.
        found: String,
    },
}

/// The names of everything that we keep in a Redis.
#[derive(Debug, Clone)]
struct Names {
    prefix: String,
}

impl Names {
    /// The stream of a channel, and also the name of its bell. The braces are a hash tag: in a cluster, all that
    /// belongs to a channel lies in one slot.
    fn stream(&self, channel: &Channel) -> String {
        format!("{}{{{channel}}}", self.prefix)
    }

    /// The channel of a stream.
    fn channel(&self, stream: &str) -> Option<Channel> {
        stream
            .strip_prefix(&self.prefix)?
            .strip_prefix('{')?
            .strip_suffix('}')?
            .parse()
            .ok()
    }

    /// The index of the gap records of a channel: a stream of the same ids, which says what was lost before each.
    fn gaps(&self, channel: &Channel) -> String {
        format!("{}:gaps", self.stream(channel))
    }

    /// The hash of what was published under a key in a channel.
    fn keys(&self, channel: &Channel) -> String {
        format!("{}:keys", self.stream(channel))
    }

    /// The sorted set of these keys, by when they expire.
    fn expiries(&self, channel: &Channel) -> String {
        format!("{}:expiries", self.stream(channel))
    }

    /// A sorted set of all channels, by when they were first used.
    fn channels(&self) -> String {
        format!("{}channels", self.prefix)
    }

    /// Written by health checks.
    fn check(&self) -> String {
        format!("{}check", self.prefix)
    }
}

impl RedisBroker {
    /// Starts the connections. A Redis that is away is waited for; one that is too old is refused.
    ///
    /// # Errors
    /// The URL is wrong, or the Redis is too old.
    pub async fn connect(
        place: Place<'_>,
        retention: Retention,
        metrics: Metrics,
        runtime: &Handle,
    ) -> Result<Self, RedisSetupError> {
        let Place {
            url,
            prefix,
            timeout,
        } = place;
        let info = connection_info(url).ok_or_else(|| RedisSetupError::Url {
            url: without_password(url),
        })?;
        let client = Client::open(info).map_err(|_| RedisSetupError::Url {
            url: without_password(url),
        })?;
        let names = Names {
            prefix: prefix.to_owned(),
        };
        let ended = CancellationToken::new();
        let notifier = ChangeNotifier::default();
        let followed_changed = Arc::new(tokio::sync::Notify::new());

        let losses = LossDetector::new(
            names.clone(),
            retention.age_max,
            retention.channels_max,
            metrics.clone(),
        );
        let losses = Arc::new(losses);
        let connection = Connection::start(
            client.clone(),
            timeout,
            losses.clone(),
            ended.clone(),
            runtime,
        );
        connection.wait_until_known().await?;
        let log = Arc::new(Log::new(connection, names.clone(), retention, losses));
        runtime.spawn(ended.clone().run_until_cancelled_owned(pubsub::listen(
            client,
            names,
            notifier.clone(),
            followed_changed.clone(),
            timeout,
        )));
        runtime.spawn(
            ended
                .clone()
                .run_until_cancelled_owned(pubsub::poll_followed(notifier.clone())),
        );
        runtime.spawn(
            ended
                .clone()
                .run_until_cancelled_owned(retention::run(Arc::downgrade(&log))),
        );
        Ok(Self {
            log,
            notifier,
            followed_changed,
            metrics,
            _tasks: Arc::new(ended.drop_guard()),
        })
    }

    pub(super) async fn append(
        &self,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let count = events.len();
        let appended = self.log.append(channel, events).await?;
        self.metrics.batch_committed(count);
        Ok(appended)
    }

    pub(super) async fn append_idempotent(
        &self,
        channel: &Channel,
        parts: &[AppendItem],
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let placed = self.log.append_idempotent(channel, parts).await?;
        let new = parts
            .iter()
            .zip(&placed)
            .filter(|(_, placed)| !placed.duplicate);
        let added: usize = new.map(|(part, _)| part.events.len()).sum();
        if added > 0 {
            self.metrics.batch_committed(added);
        }
        Ok(placed)
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        self.log.read(channel, from, limits).await
    }

    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        self.log.read_back(channel, before, limits).await
    }

    pub(super) async fn last_id(&self, channel: &Channel) -> Result<EventId, BrokerError> {
        self.log.last_id(channel).await
    }

    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        self.log.check_settled(channel, bound).await
    }

    pub(super) async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        self.log.loss_spanning(channel, bound).await
    }

    pub(super) async fn now_ms(&self) -> Result<u64, BrokerError> {
        self.log.now_ms().await
    }

    pub(super) const fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    /// Has the bells of newly followed channels heard.
    pub(super) fn followed_changed(&self) {
        self.followed_changed.notify_one();
    }

    pub(super) async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        self.log.check().await
    }
}

/// The connection's settings; redis-rs leaves Nagle's algorithm on.
fn connection_info(url: &str) -> Option<ConnectionInfo> {
    let settings = TcpSettings::default().set_nodelay(true);
    Some(url.into_connection_info().ok()?.set_tcp_settings(settings))
}

/// The URL as it may be shown to anybody: without its password, which a socket's URL has in its query.
#[must_use]
pub fn without_password(url: &str) -> String {
    let known =
        |parsed: &url::Url| ["redis", "rediss", "redis+unix", "unix"].contains(&parsed.scheme());
    let Some(mut parsed) = url::Url::parse(url).ok().filter(known) else {
        let shown = url.rsplit('@').next().unwrap_or_default();
        return shown.split('?').next().unwrap_or_default().to_owned();
    };
    if parsed.password().is_some() {
        // Only URLs without a host refuse a password, and those have none to hide.
        let _ = parsed.set_password(Some("***"));
    }
    if parsed.query().is_some() {
        parsed.set_query(Some("***"));
    }
    if parsed.as_str().contains("***") {
        parsed.to_string()
    } else {
        url.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_leads_back_to_its_channel() {
        let names = Names {
            prefix: "sse:".to_owned(),
        };
        let channel: Channel = "orders:eu".parse().unwrap();
        assert_eq!(names.stream(&channel), "sse:{orders:eu}");
        assert_eq!(names.channel("sse:{orders:eu}").as_ref(), Some(&channel));
        for other in [
            names.channels(),
            names.gaps(&channel),
            names.keys(&channel),
            names.expiries(&channel),
        ] {
            assert_eq!(names.channel(&other), None);
        }
        let other = Names {
            prefix: "sse:other:".to_owned(),
        };
        assert_eq!(names.channel(&other.stream(&channel)), None);
    }

    #[test]
    fn a_prefix_cannot_move_the_hash_tag() {
        for good in ["", "sse:", "app-1.eu:"] {
            assert_eq!(parse_prefix(good).as_deref(), Ok(good));
        }
        for bad in ["{a}", "a b", "a*", "é", "a\n", &"x".repeat(65)] {
            assert!(parse_prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("redis://me:secret@host/1"),
            "redis://me:***@host/1"
        );
        assert_eq!(without_password("redis://localhost"), "redis://localhost");
        assert_eq!(
            without_password("redis+unix:///run/redis.sock?pass=secret"),
            "redis+unix:///run/redis.sock?***"
        );
        for unreadable in [
            "red is://me:secret@host",
            "me:secret@host",
            "/run/redis.sock?pass=secret",
        ] {
            assert!(!without_password(unreadable).contains("secret"));
        }
    }
}
