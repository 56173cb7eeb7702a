//! The URL of a Redis, shown without its secrets.

use url::Url;

use super::{ServerAddress, url::is_primary_name};

/// Text that replaces a secret.
const REDACTED: &str = "***";
/// Schemes of URLs with several hosts.
const LIST_SCHEMES: [&str; 4] = [
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
];

/// Returns `url` without secrets, so that it can be logged.
///
/// Shown are the scheme, a user name that has a password, the hosts, the ports, the name of a
/// primary, the number of the database, and the path of a socket. Everything else is replaced, because a password may be
/// there by mistake. A text that is not a Redis URL is cut down to what lies between the last `@`
/// and the next `/` or `?`.
#[must_use]
pub fn without_password(url: &str) -> String {
    if let Some(shown) = redact_list(url) {
        return shown;
    }
    match parse_redis_url(url) {
        // The parser may have changed the spelling of a URL; one without secrets is shown as given.
        Some(parsed) => redact(parsed).unwrap_or_else(|| url.to_owned()),
        None => cut_to_host(url).to_owned(),
    }
}

/// Returns the part of `text` that can only be a host and a port.
fn cut_to_host(text: &str) -> &str {
    let shown = text.rsplit('@').next().unwrap_or_default();
    let authority = shown.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Shows a URL that may name several hosts; returns `None` for any other text.
///
/// The crate `url` knows no list of hosts.
fn redact_list(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !LIST_SCHEMES.contains(&scheme) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (redact_login(user), hosts),
        None => (String::new(), authority),
    };
    let are_hosts = hosts
        .split(',')
        .all(|host| ServerAddress::parse(host, 1).is_some());
    // An `@` behind the hosts shows that a character of the password was not encoded.
    if !are_hosts || path.contains('@') {
        return None;
    }
    let (path, rest) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let (path, rest) = (redact_names(path), redact_rest(rest));
    Some(format!("{scheme}://{user}{hosts}{path}{rest}"))
}

/// Shows a path that consists of the name of a primary and the number of a database.
fn redact_names(path: &str) -> String {
    let is_name = |part: &str| part.is_empty() || is_primary_name(part);
    if path.split('/').all(is_name) {
        path.to_owned()
    } else {
        format!("/{REDACTED}")
    }
}

fn redact_rest(rest: &str) -> String {
    let mark = rest.chars().next();
    mark.map_or_else(String::new, |mark| format!("{mark}{REDACTED}"))
}

/// Shows the user of `user:password`. A user name without a password may be meant as the password.
fn redact_login(login: &str) -> String {
    match login.split_once(':') {
        Some((user, _)) => format!("{user}:{REDACTED}@"),
        None => format!("{REDACTED}@"),
    }
}

/// Replaces the secrets of `url`; returns `None` if it has none.
fn redact(mut url: Url) -> Option<String> {
    // Every part is replaced, so the calls must not be short-circuited.
    let redacted = [
        redact_user(&mut url),
        redact_path(&mut url),
        redact_query(&mut url),
        redact_fragment(&mut url),
    ];
    redacted.contains(&true).then(|| url.to_string())
}

/// Replaces the password. A user name without a password may be meant as the password.
fn redact_user(url: &mut Url) -> bool {
    // Setting them fails only for a URL without a host, and such a URL has neither.
    if url.password().is_some() {
        let _ = url.set_password(Some(REDACTED));
        return true;
    }
    let has_user = !url.username().is_empty();
    if has_user {
        let _ = url.set_username(REDACTED);
    }
    has_user
}

/// Replaces a path that is not the number of a database.
fn redact_path(url: &mut Url) -> bool {
    let database = url.path().trim_start_matches('/');
    let is_shown = is_socket(url) || database.bytes().all(|byte| byte.is_ascii_digit());
    if !is_shown {
        url.set_path(REDACTED);
    }
    !is_shown
}

fn redact_query(url: &mut Url) -> bool {
    let has_query = url.query().is_some();
    if has_query {
        url.set_query(Some(REDACTED));
    }
    has_query
}

fn redact_fragment(url: &mut Url) -> bool {
    let has_fragment = url.fragment().is_some();
    if has_fragment {
        url.set_fragment(Some(REDACTED));
    }
    has_fragment
}

/// Parses a URL that has the form of a Redis URL.
///
/// An `@` behind the host shows that a character of the password was not encoded, so that the
/// parser took a part of the password for the host.
fn parse_redis_url(url: &str) -> Option<Url> {
    let parsed = Url::parse(url).ok()?;
    let has_place = is_socket(&parsed) || parsed.host_str().is_some_and(|host| !host.is_empty());
    let is_split = parsed[url::Position::BeforePath..].contains('@');
    (is_redis_url(&parsed) && has_place && !is_split).then_some(parsed)
}

fn is_redis_url(url: &Url) -> bool {
    ["redis", "rediss"].contains(&url.scheme()) || is_socket(url)
}

/// Whether the path is that of a Unix socket.
fn is_socket(url: &Url) -> bool {
    ["redis+unix", "unix"].contains(&url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("redis://me:secret@host/1", "redis://me:***@host/1"),
            ("redis://:secret@host:6380", "redis://:***@host:6380"),
            ("redis://secret@host", "redis://***@host"),
            ("redis://host/secret", "redis://host/***"),
            ("redis://host/0?secret#secret", "redis://host/0?***#***"),
            ("redis://localhost", "redis://localhost"),
            ("redis://localhost/", "redis://localhost/"),
            (
                "redis+unix:///run/redis.sock?pass=secret",
                "redis+unix:///run/redis.sock?***",
            ),
            (
                "redis+sentinel://me:secret@a:1,b/primary/0",
                "redis+sentinel://me:***@a:1,b/primary/0",
            ),
            (
                "rediss+sentinel://secret@[::1]:7/primary?secret",
                "rediss+sentinel://***@[::1]:7/primary?***",
            ),
            ("redis+cluster://:secret@a,b", "redis+cluster://:***@a,b"),
            (
                "redis+sentinel://a,b/primary",
                "redis+sentinel://a,b/primary",
            ),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_text_that_is_not_a_redis_url_shows_no_secret() {
        for url in [
            "red is://me:secret@host",
            "me:secret@host",
            "/run/redis.sock?pass=secret",
            "redis:/me:secret@host",
            "redis:me:secret@host",
            "redis:secret",
            "redis:///secret",
            "redis://me:12/secret@host",
            "redis://me:se?secret@host",
            "redis://me:se#secret@host",
            "redis://me:secret/x@host/1",
            "https://me:secret@host/secret",
            "redis+sentinel://me:12/secret@a,b/primary",
            "redis+sentinel://me:se?secret@a,b/primary",
            "redis+sentinel://me:secret,a@a b/primary",
            "redis+sentinel://a/me:secret@b",
        ] {
            assert!(!without_password(url).contains("secret"), "{url}");
        }
    }
}
