//! Where the server is that `sse-server health` asks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use url::Url;

use super::health::{LIVE, READY};
use crate::{Endpoint, ListenAddress};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthTarget {
    /// Without a path of the server's routes.
    pub(super) url: Url,
    /// The unix socket to connect to.
    pub(super) socket: Option<PathBuf>,
    /// The certificate need not be valid for the host, because the host is this machine.
    pub(super) is_own: bool,
}

impl HealthTarget {
    /// Returns where a server with these addresses can be asked from its own machine.
    ///
    /// # Errors
    ///
    /// No address can be asked: they expect a PROXY header, or their port is chosen at the start.
    pub(crate) fn of_own(addresses: &[ListenAddress]) -> Result<Self, String> {
        let is_askable = |address: &&ListenAddress| {
            !address.requires_proxy_header() && !address.takes_free_port()
        };
        let address = addresses.iter().find(is_askable).ok_or(
            "every --bind has port 0 or expects a PROXY header: name the URL, or add another \
             --bind, such as unix:/run/sse-server/health.sock",
        )?;
        let socket = match address.endpoint() {
            Endpoint::Tcp(tcp) => {
                let url = format!("{}://{}", address.scheme(), reachable(*tcp));
                return Ok(Self {
                    url: parse_url(&url)?,
                    socket: None,
                    is_own: true,
                });
            }
            Endpoint::Unix(path) => path.to_path_buf(),
        };
        Self::of_socket(socket)
    }

    fn of_socket(socket: PathBuf) -> Result<Self, String> {
        Ok(Self {
            url: parse_url("http://localhost")?,
            socket: Some(socket),
            is_own: false,
        })
    }

    /// Returns the URL of a route, below the path of the server's URL.
    pub(crate) fn route(&self, route: &str) -> Url {
        let mut url = self.url.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{route}"));
        url
    }

    pub(crate) fn describe(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.url.as_str().trim_end_matches('/').to_owned(),
        }
    }
}

/// Parses `http://…`, `https://…`, `unix:PATH`, or an address and a port.
impl FromStr for HealthTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // The path of the URL unix:///run/sse.sock begins with its last slash.
            let path = path
                .strip_prefix("//")
                .filter(|path| path.starts_with('/'))
                .unwrap_or(path);
            if path.is_empty() {
                return Err(
                    "the path of the socket is missing: write unix:/run/sse.sock".to_owned(),
                );
            }
            return Self::of_socket(path.into());
        }
        let has_scheme = text.contains("://");
        let url = if has_scheme {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        Ok(Self {
            url: parse_url(&url)?,
            socket: None,
            is_own: false,
        })
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let wrong = || {
        format!(
            "{text:?} is not the URL of a server: write http://127.0.0.1:5000, https://hub.example \
             or unix:/run/sse.sock"
        )
    };
    let mut url: Url = text.parse().map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL must not contain a user or a password: no credential is needed".to_owned(),
        );
    }
    url.set_query(None);
    url.set_fragment(None);
    for route in [LIVE, READY] {
        if let Some(prefix) = url.path().strip_suffix(route) {
            let prefix = prefix.to_owned();
            url.set_path(&prefix);
        }
    }
    Ok(url)
}

/// Returns the address at which a server that listens at `address` can be reached from its machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(addresses: &[&str]) -> Result<String, String> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        HealthTarget::of_own(&addresses).map(|target| target.describe())
    }

    #[test]
    fn the_first_own_address_that_can_be_asked_is_asked_on_this_machine() {
        for (addresses, asked) in [
            (&["127.0.0.1:5000"][..], "http://127.0.0.1:5000"),
            (&["0.0.0.0:80"], "http://127.0.0.1"),
            (&["https://[::]:8443"], "https://[::1]:8443"),
            (&["10.0.0.1:5000"], "http://10.0.0.1:5000"),
            (&["10.0.0.1:1?proxy=v2", "unix:/run/a"], "unix:/run/a"),
            (&["127.0.0.1:0", "[::1]:7"], "http://[::1]:7"),
        ] {
            assert_eq!(own(addresses).as_deref(), Ok(asked));
        }
        let error = own(&["127.0.0.1:0", "10.0.0.1:1?proxy=v2"]).unwrap_err();
        assert!(error.contains("name the URL"), "{error}");
    }

    #[test]
    fn a_target_is_a_url_a_socket_or_an_address() {
        for (text, ready) in [
            ("127.0.0.1:5000", "http://127.0.0.1:5000/health/ready"),
            (
                "https://hub.example/sse/",
                "https://hub.example/sse/health/ready",
            ),
            ("http://a:1/health/live", "http://a:1/health/ready"),
            (
                "http://a:1/x/health/ready?y=1#z",
                "http://a:1/x/health/ready",
            ),
            ("unix:///run/sse.sock", "http://localhost/health/ready"),
        ] {
            let target: HealthTarget = text.parse().unwrap();
            assert_eq!(target.route(READY).as_str(), ready, "{text}");
        }
        let target: HealthTarget = "unix:///run/sse.sock".parse().unwrap();
        assert_eq!(target.describe(), "unix:/run/sse.sock");
        for text in [
            "",
            "ftp://a",
            "http://",
            "unix:",
            "http://user:secret@a",
            "a b",
        ] {
            let error = text.parse::<HealthTarget>().unwrap_err();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
