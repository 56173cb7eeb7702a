//! Parses `--redis-url`, which names one Redis, the sentinels of a primary, or nodes of a Redis Cluster.
//!
//! ```text
//! redis://[user:password@]host[:6379][/database]                       rediss:// for TLS
//! redis+unix:///path/to/socket
//! redis+sentinel://[user:password@]host[:26379],…/primary[/database]   rediss+sentinel:// for TLS
//! redis+cluster://[user:password@]host[:6379],…                        rediss+cluster:// for TLS
//! ```
//!
//! The user and the password are those of Redis. Sentinels have settings of their own.

use std::str::FromStr as _;

use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};

use super::{ServerAddress, redact::without_password};

const SENTINEL_PORT: u16 = 26379;
const CLUSTER_PORT: u16 = 6379;

const FORMS: &str = "redis://[user:password@]host[:port][/database] (rediss:// for TLS), \
                     redis+unix:///path/to/socket, \
                     redis+sentinel://[user:password@]host[:26379],…/primary[/database] \
                     (rediss+sentinel:// for TLS), or \
                     redis+cluster://[user:password@]host[:6379],… (rediss+cluster:// for TLS)";
const SENTINEL_FORM: &str = "redis+sentinel://[user:password@]host[:26379],…/primary[/database], where primary is the \
     name under which the sentinels know it (rediss+sentinel:// for TLS)";

const CLUSTER_FORM: &str = "redis+cluster://[user:password@]host[:6379],… with some nodes of the cluster, and without a \
     database (rediss+cluster:// for TLS)";

/// A parsed `--redis-url`.
#[derive(Debug, Clone)]
pub(super) struct RedisUrl {
    pub(super) servers: Servers,
    pub(super) has_tls: bool,
    /// User, password, database and protocol.
    pub(super) login: RedisConnectionInfo,
}

/// The servers of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker::redis) enum Servers {
    /// One Redis.
    One(ServerAddress),
    /// Sentinels, and the name of the primary that they watch.
    Sentinels {
        addresses: Vec<ServerAddress>,
        primary: String,
    },
    /// Some nodes of a Redis Cluster, which report all others.
    Cluster(Vec<ServerAddress>),
}

impl RedisUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// The text shows the URL without its secrets, and the expected form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", ""));
        let (family, has_tls) = match scheme.strip_prefix("rediss") {
            Some(kind) => (kind, true),
            None => (scheme.strip_prefix("redis").unwrap_or(scheme), false),
        };
        let parsed = match (family, has_tls) {
            ("", _) if !scheme.is_empty() => parse_one(&format!("redis://{rest}")),
            ("+unix" | "unix", false) => parse_one(text),
            ("+sentinel", _) => parse_sentinels(rest),
            ("+cluster", _) => parse_cluster(rest),
            _ => None,
        };
        let form = match family {
            "+sentinel" => SENTINEL_FORM,
            "+cluster" => CLUSTER_FORM,
            _ => FORMS,
        };
        let (servers, login) = parsed.ok_or_else(|| {
            let shown = without_password(text);
            format!("{shown:?} is not a Redis URL: write {form}")
        })?;
        Ok(Self {
            servers,
            has_tls,
            login,
        })
    }
}

fn parse_one(url: &str) -> Option<(Servers, RedisConnectionInfo)> {
    let info = ConnectionInfo::from_str(url).ok()?;
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => ServerAddress::Tcp {
            host: host.clone(),
            port: *port,
        },
        ConnectionAddr::Unix(path) => ServerAddress::Socket(path.clone()),
        _ => return None,
    };
    Some((Servers::One(address), info.redis_settings().clone()))
}

/// Parses what follows `redis+sentinel://`.
fn parse_sentinels(rest: &str) -> Option<(Servers, RedisConnectionInfo)> {
    let (authority, path) = rest.split_once('/')?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (primary, database) = path.split_once('/').unwrap_or((path, ""));
    let (user, addresses) = parse_hosts(authority, SENTINEL_PORT)?;
    // The rest has the form and the rules of the URL of one Redis.
    let (_, login) = parse_one(&format!("redis://{user}host/{database}?{query}"))?;
    is_primary_name(primary).then(|| {
        let primary = primary.to_owned();
        (Servers::Sentinels { addresses, primary }, login)
    })
}

/// Parses what follows `redis+cluster://`. A cluster has no numbered databases.
fn parse_cluster(rest: &str) -> Option<(Servers, RedisConnectionInfo)> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (user, addresses) = parse_hosts(authority, CLUSTER_PORT)?;
    let (_, login) = parse_one(&format!("redis://{user}host"))?;
    Some((Servers::Cluster(addresses), login))
}

/// Parses `[user:password@]host[:port],…`. Returns what ends with the `@`, and the addresses.
fn parse_hosts(authority: &str, default_port: u16) -> Option<(String, Vec<ServerAddress>)> {
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let addresses = hosts
        .split(',')
        .map(|host| ServerAddress::parse(host, default_port))
        .collect::<Option<Vec<_>>>()?;
    Some((user, addresses))
}

/// Whether sentinels accept this name of a primary.
pub(super) fn is_primary_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> RedisUrl {
        RedisUrl::parse(url).unwrap()
    }

    fn tcp(host: &str, port: u16) -> ServerAddress {
        let host = host.to_owned();
        ServerAddress::Tcp { host, port }
    }

    #[test]
    fn a_url_of_one_redis_has_a_user_a_database_and_perhaps_tls() {
        for (url, has_tls) in [("redis", false), ("rediss", true)] {
            let url = parse(&format!("{url}://me:p%40ss@host/3?protocol=resp3"));
            assert_eq!(url.servers, Servers::One(tcp("host", 6379)));
            assert_eq!(url.has_tls, has_tls);
            let login = url.login;
            assert_eq!(
                (login.username(), login.password()),
                (Some("me"), Some("p@ss"))
            );
            assert_eq!(
                (login.db(), login.protocol()),
                (3, redis::ProtocolVersion::RESP3)
            );
        }
        let socket = parse("redis+unix:///run/redis.sock?db=2");
        assert_eq!(
            socket.servers,
            Servers::One(ServerAddress::Socket("/run/redis.sock".into()))
        );
        assert_eq!(socket.login.db(), 2);
    }

    #[test]
    fn a_url_of_sentinels_has_their_addresses_and_the_name_of_the_primary() {
        let url = parse("rediss+sentinel://me:secret@a,[::1]:7,c:8/my-primary/5");
        let addresses = vec![tcp("a", 26379), tcp("::1", 7), tcp("c", 8)];
        let primary = "my-primary".to_owned();
        assert_eq!(url.servers, Servers::Sentinels { addresses, primary });
        assert!(url.has_tls);
        assert_eq!((url.login.db(), url.login.password()), (5, Some("secret")));
        assert!(!parse("redis+sentinel://a/m").has_tls);
    }

    #[test]
    fn a_url_of_a_cluster_has_the_addresses_of_some_nodes() {
        let url = parse("rediss+cluster://me:secret@a,[::1]:7,c:8");
        let addresses = vec![tcp("a", 6379), tcp("::1", 7), tcp("c", 8)];
        assert_eq!(url.servers, Servers::Cluster(addresses));
        assert!(url.has_tls);
        let login = url.login;
        assert_eq!((login.db(), login.password()), (0, Some("secret")));
        assert!(!parse("redis+cluster://a/").has_tls);
    }

    #[test]
    fn an_error_shows_the_expected_form_and_no_secret() {
        for (bad, expected) in [
            ("", "redis://[user"),
            ("host", "redis://[user"),
            ("http://me:secret@host", "redis://[user"),
            ("redis://me:secret@host:x", "redis://[user"),
            ("rediss+unix:///secret", "redis://[user"),
            ("redis+other://secret", "redis://[user"),
            ("redis+sentinel://me:secret@a,b", "redis+sentinel://[user"),
            ("redis+sentinel://me:secret@a,b/", "redis+sentinel://[user"),
            (
                "redis+sentinel://me:secret@a,,b/m",
                "redis+sentinel://[user",
            ),
            ("redis+sentinel://me:secret@a/m/x", "redis+sentinel://[user"),
            ("redis+sentinel://me:sec/ret@a/m", "redis+sentinel://[user"),
            ("redis+cluster://me:secret@a,,b", "redis+cluster://[user"),
            ("redis+cluster://me:secret@a/3", "without a database"),
            ("redis+cluster://me:sec/ret@a", "redis+cluster://[user"),
            ("rediss+cluster://", "redis+cluster://[user"),
        ] {
            let error = RedisUrl::parse(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
            assert!(
                !error.contains("secret") && !error.contains("ret@"),
                "{error}"
            );
        }
    }
}
