//! The URL of a Redis: how it becomes connection settings, and how it is shown without secrets.

use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisResult, io::tcp::TcpSettings};
use url::Url;

/// Text that replaces a secret.
const REDACTED: &str = "***";

/// Makes a client for `url`. The client does not connect yet.
pub(super) fn open_client(url: &str) -> RedisResult<Client> {
    // redis-rs leaves Nagle's algorithm on, which would delay small commands.
    let settings = TcpSettings::default().set_nodelay(true);
    let info: ConnectionInfo = url.into_connection_info()?.set_tcp_settings(settings);
    Client::open(info)
}

/// Returns `url` without secrets, so that it can be logged.
///
/// The password is replaced, and the whole query, because the URL of a Unix socket has its password
/// there. A text that is not a Redis URL is cut down to what lies between the last `@` and the
/// first `?` behind it.
#[must_use]
pub fn without_password(url: &str) -> String {
    match parse_redis_url(url) {
        // The parser may have changed the spelling of a URL; one without secrets is shown as given.
        Some(parsed) => redact(parsed).unwrap_or_else(|| url.to_owned()),
        None => cut_to_host(url).to_owned(),
    }
}

/// Returns the part of `text` between the last `@` and the first `?` behind it.
fn cut_to_host(text: &str) -> &str {
    let shown = text.rsplit('@').next().unwrap_or_default();
    shown.split('?').next().unwrap_or_default()
}

/// Replaces the secrets of `url`; returns `None` if it has none.
fn redact(mut url: Url) -> Option<String> {
    let had_password = redact_password(&mut url);
    let had_query = redact_query(&mut url);
    (had_password || had_query).then(|| url.to_string())
}

fn redact_password(url: &mut Url) -> bool {
    let has_password = url.password().is_some();
    if has_password {
        // Setting a password fails only for a URL without a host, and such a URL has no password.
        let _ = url.set_password(Some(REDACTED));
    }
    has_password
}

fn redact_query(url: &mut Url) -> bool {
    let has_query = url.query().is_some();
    if has_query {
        url.set_query(Some(REDACTED));
    }
    has_query
}

fn parse_redis_url(url: &str) -> Option<Url> {
    Url::parse(url).ok().filter(is_redis_url)
}

fn is_redis_url(url: &Url) -> bool {
    ["redis", "rediss", "redis+unix", "unix"].contains(&url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

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
