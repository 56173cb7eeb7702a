//! The address of a server: a host and a port, or a unix socket.

use std::{fmt, path::PathBuf};

/// Where a Redis or a sentinel listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::broker::redis) enum ServerAddress {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

impl ServerAddress {
    /// Parses `host[:port]`; an IPv6 address is in brackets. Returns `None` if `text` is no address.
    pub(super) fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => default_port,
        };
        let host = host.to_owned();
        (is_host(&host) && port > 0).then_some(Self::Tcp { host, port })
    }

    /// The address that a server reports: a host without brackets, and a port.
    pub(in crate::broker::redis) fn reported(host: &str, port: &str) -> Option<Self> {
        let (host, port) = (host.to_owned(), port.parse().ok()?);
        is_host(&host).then_some(Self::Tcp { host, port })
    }
}

/// Splits `host:port` or `[v6]:port`; the host is without brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => port.is_empty().then_some((host, None)),
        };
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn is_host(host: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    !host.is_empty() && host.bytes().all(is_allowed)
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for (text, shown) in [
            ("redis.example", "redis.example:26379"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:26379"),
        ] {
            let address = ServerAddress::parse(text, 26379).unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for bad in [
            "", ":7", "a:", "a:x", "a:0", "::1", "[::1", "[::1]x", "a b", "a:70000",
        ] {
            assert_eq!(ServerAddress::parse(bad, 1), None, "{bad}");
        }
        assert_eq!(
            ServerAddress::reported("::1", "6379").unwrap().to_string(),
            "[::1]:6379"
        );
    }
}
