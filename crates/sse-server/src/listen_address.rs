//! An address that the server listens on: an IP address and a port, or a unix socket.
//!
//! ```text
//! 127.0.0.1:5000              http://127.0.0.1:5000 is the same
//! https://0.0.0.0:8443        TLS
//! unix:/run/sse.sock          HTTP over a unix socket
//! http://10.0.0.1:80?proxy=v2 every connection begins with a header of the PROXY protocol
//! ```

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    os::unix,
    path::Path,
    str::FromStr,
    sync::Arc,
};

use sse_cli::loopback::is_loopback_ip;

/// Begins the address of a unix socket.
const UNIX_PREFIX: &str = "unix:";
const HTTP_PREFIX: &str = "http://";
const HTTPS_PREFIX: &str = "https://";
/// Ends an address whose connections begin with a PROXY header.
const PROXY_OPTION: &str = "proxy=v2";
/// Bytes of the longest path of a socket: `sun_path` without the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where the server listens, and which protocol its clients speak there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    endpoint: Endpoint,
    uses_tls: bool,
    requires_proxy_header: bool,
    role: AddressRole,
}

/// Which requests are answered at an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AddressRole {
    /// All requests.
    #[default]
    All,
    /// All but those of operators, which have an address of their own.
    Clients,
    /// All requests, at the address of operators.
    Operators,
}

/// The socket of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP. Port 0 stands for a free port until the server listens.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(Arc<Path>),
}

impl ListenAddress {
    /// Returns the address for HTTP without TLS at `endpoint`.
    #[must_use]
    pub const fn http(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            uses_tls: false,
            requires_proxy_header: false,
            role: AddressRole::All,
        }
    }

    /// Returns the address without the routes of operators.
    #[must_use]
    pub fn for_clients(self) -> Self {
        let role = AddressRole::Clients;
        Self { role, ..self }
    }

    /// Returns the address as that of operators.
    #[must_use]
    pub fn for_operators(self) -> Self {
        let role = AddressRole::Operators;
        Self { role, ..self }
    }

    /// Whether the routes of operators are here. The rights that they need are the same everywhere.
    #[must_use]
    pub fn serves_operators(&self) -> bool {
        self.role != AddressRole::Clients
    }

    /// The flag that has the address.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        match self.role {
            AddressRole::All | AddressRole::Clients => "--bind",
            AddressRole::Operators => "--admin-bind",
        }
    }

    /// The socket to listen on.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the same address at another socket.
    #[must_use]
    pub fn at(&self, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            ..self.clone()
        }
    }

    /// Whether clients speak HTTPS.
    #[must_use]
    pub const fn uses_tls(&self) -> bool {
        self.uses_tls
    }

    /// Whether every connection must begin with a header of the PROXY protocol.
    #[must_use]
    pub const fn requires_proxy_header(&self) -> bool {
        self.requires_proxy_header
    }

    /// Whether only programs on this machine can connect.
    ///
    /// The permissions of its file decide who may connect to a unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.endpoint {
            Endpoint::Tcp(address) => is_loopback_ip(address.ip()),
            Endpoint::Unix(_) => true,
        }
    }

    /// The IP address and port; `None` for a unix socket.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix(_) => None,
        }
    }

    /// The scheme of the address's URLs.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.uses_tls { "https" } else { "http" }
    }

    /// The URL of the address, or `unix:` and the path.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(address) => format!("{}://{address}", self.scheme()),
            Endpoint::Unix(_) => self.endpoint.to_string(),
        }
    }

    /// Whether the system chooses the port.
    #[must_use]
    pub fn takes_free_port(&self) -> bool {
        self.tcp().is_some_and(|address| address.port() == 0)
    }

    /// Whether a server cannot listen on both addresses, because they are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.endpoint, &other.endpoint) {
            (Endpoint::Tcp(one), Endpoint::Tcp(other)) => {
                let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
                ip == other_ip && one.port() == other.port() && one.port() != 0
            }
            (Endpoint::Unix(one), Endpoint::Unix(other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// Writes the address as `--bind` accepts it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uses_tls {
            f.write_str(HTTPS_PREFIX)?;
        }
        self.endpoint.fmt(f)?;
        if self.requires_proxy_header {
            write!(f, "?{PROXY_OPTION}")?;
        }
        Ok(())
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, requires_proxy_header) = split_option(text)?;
        let (endpoint, uses_tls) = parse_address(address)?;
        Ok(Self {
            endpoint,
            uses_tls,
            requires_proxy_header,
            role: AddressRole::All,
        })
    }
}

/// Splits the option off. The path of a unix socket may contain any other question mark.
fn split_option(text: &str) -> Result<(&str, bool), String> {
    match text.rsplit_once('?') {
        Some((address, PROXY_OPTION)) => Ok((address, true)),
        Some((_, option)) if !text.starts_with(UNIX_PREFIX) || option.starts_with("proxy=") => Err(
            format!("{option:?} is not an option of an address: the only one is ?{PROXY_OPTION}"),
        ),
        _ => Ok((text, false)),
    }
}

/// Parses an address without options. Returns whether it uses TLS, too.
fn parse_address(text: &str) -> Result<(Endpoint, bool), String> {
    if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
        return Ok((Endpoint::Unix(parse_socket_path(path)?), false));
    }
    if text.starts_with(['/', '.']) {
        return Err(format!(
            "{text:?} is not an address and a port: write {UNIX_PREFIX}{text} for a unix socket"
        ));
    }
    let (address, uses_tls) = match text.strip_prefix(HTTPS_PREFIX) {
        Some(address) => (address, true),
        None => (text.strip_prefix(HTTP_PREFIX).unwrap_or(text), false),
    };
    // A URL often ends with a slash.
    let address = address.strip_suffix('/').unwrap_or(address);
    Ok((Endpoint::Tcp(parse_tcp(address)?), uses_tls))
}

fn parse_tcp(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|_| {
        format!(
            "{text:?} is not an address and a port: write 127.0.0.1:5000, [::1]:5000, \
             localhost:5000, {HTTPS_PREFIX}0.0.0.0:8443 or {UNIX_PREFIX}/run/sse.sock"
        )
    })?;
    addresses
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

fn parse_socket_path(text: &str) -> Result<Arc<Path>, String> {
    // The path of the URL unix:///run/sse.sock begins with its last slash.
    let text = text.strip_prefix("//").filter(is_absolute).unwrap_or(text);
    if text.is_empty() || text.ends_with('/') {
        return Err("the path of a socket is missing: write unix:/run/sse.sock".to_owned());
    }
    if text.starts_with('@') {
        return Err(format!(
            "{text:?} is an abstract socket, to which every user may connect: write a path like \
             unix:/run/sse.sock"
        ));
    }
    if unix::net::SocketAddr::from_pathname(text).is_err() {
        return Err(format!(
            "the path of the socket has {} bytes, and the system allows {SOCKET_PATH_BYTES_MAX}: \
             choose a shorter one, such as unix:/run/sse.sock",
            text.len()
        ));
    }
    Ok(Path::new(text).into())
}

fn is_absolute(path: &&str) -> bool {
    path.starts_with('/')
}

#[cfg(test)]
mod tests;
