//! The flags about the network: where the server listens, and which pages may use it.

use std::{num::NonZeroUsize, time::Duration};

use clap::{ArgAction, Args};
use sse_cli::switch::parse_switch;
use sse_proto::units::parse_duration;

use super::values::{parse_on_off, parse_positive, parse_socket_mode};
use crate::{
    ListenAddress,
    http::{NamedOrigins, OriginPattern, PublicUrl, TrustedProxy},
};

/// The flags about the network.
#[derive(Args)]
pub(super) struct NetworkArgs {
    /// Listen on this address, or on a unix socket like `unix:/run/sse.sock` (repeatable;
    /// comma-separated in the variable)
    ///
    /// `https://0.0.0.0:8443` uses TLS, and needs --tls-cert. At an address that ends with
    /// `?proxy=v2`, every connection must begin with a header of the PROXY protocol, version 2,
    /// whose source counts as the client. Port 0 takes a free port and prints its URL on stdout. An address that other machines can
    /// reach needs the table [access] in the configuration file, or --allow-anonymous. A file that an ended
    /// server has left at the path of a unix socket is replaced; every other file stays.
    #[arg(
        long = "bind",
        env = "SSE_BIND",
        default_value = "127.0.0.1:5000",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        value_parser = str::parse::<ListenAddress>
    )]
    pub(super) addresses: Vec<ListenAddress>,

    /// Answer /admin and show the dashboard only at this address, written as for --bind (repeatable;
    /// comma-separated in the variable)
    ///
    /// All other routes are there, too. The addresses of --bind then answer 404 for /admin. The
    /// rights that a caller needs are the same at every address.
    #[arg(
        long = "admin-bind",
        env = "SSE_ADMIN_BIND",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        value_parser = str::parse::<ListenAddress>
    )]
    pub(super) admin_addresses: Vec<ListenAddress>,

    /// Give the files of unix sockets these permissions, in octal
    ///
    /// Users who may write to the file may connect, and so publish and read.
    #[arg(
        long,
        env = "SSE_SOCKET_MODE",
        default_value = "0600",
        value_name = "MODE",
        value_parser = parse_socket_mode
    )]
    pub(super) socket_mode: u32,

    /// Let one client have at most this many connections [default: nine tenths of those that are not
    /// reserved for publishers and health checks, or of --streams-max and 16 more if that is less]
    ///
    /// A client is an IPv4 address, or the /64 of an IPv6 address. A proxy counts as one client,
    /// unless it is a --trusted-proxy, which has no limit, as one over a unix socket. Beyond the
    /// limit, a new connection closes the one of the client that is idle for the longest time. If
    /// none is idle, the new connection can publish, but not open a stream.
    #[arg(
        long,
        env = "SSE_CLIENT_CONNECTIONS_MAX",
        value_name = "CONNECTIONS",
        value_parser = parse_positive,
        allow_negative_numbers = true
    )]
    pub(super) client_connections_max: Option<NonZeroUsize>,

    /// Offer HTTP/2 to clients that connect over TLS: on or off
    ///
    /// A client chooses it during the handshake. Over HTTP/2 a browser has one connection for all
    /// streams and publishes of all its tabs.
    #[arg(
        long,
        env = "SSE_HTTP2",
        default_value = "on",
        value_name = "on|off",
        action = ArgAction::Set,
        value_parser = parse_on_off
    )]
    pub(super) http2: bool,

    /// Let every client that reaches the address publish and read
    ///
    /// With the table [access] in the configuration file, callers without a credential may publish,
    /// manage and observe as far as [access.anonymous] grants it.
    #[arg(long, env = "SSE_ALLOW_ANONYMOUS", value_parser = parse_switch)]
    pub(super) allow_anonymous: bool,

    /// Let pages of this origin read (repeatable; comma-separated in the variable)
    ///
    /// Write an origin as browsers send it (`https://app.example`, `capacitor://localhost`),
    /// `https://*.app.example` for one or more labels before a domain, `null` for sandboxed pages,
    /// or `*` for all. Without this flag and --publish-origin the server sends no CORS headers.
    #[arg(
        long = "cors-origin",
        env = "SSE_CORS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = str::parse::<OriginPattern>
    )]
    pub(super) cors_origins: Vec<OriginPattern>,

    /// Let pages of this origin read and publish (repeatable; written as for --cors-origin)
    ///
    /// Publishes from pages of all other origins are rejected.
    #[arg(
        long = "publish-origin",
        env = "SSE_PUBLISH_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = str::parse::<OriginPattern>
    )]
    pub(super) publish_origins: Vec<OriginPattern>,

    /// Let pages of named origins send cookies and authorization, which a proxy may check
    ///
    /// Not together with the origins * and null.
    #[arg(long, env = "SSE_CORS_CREDENTIALS", value_parser = parse_switch)]
    pub(super) cors_credentials: bool,

    /// Declare the URL at which clients reach this server through a proxy (repeatable)
    ///
    /// On a loopback address, requests for other hosts that are not this machine are rejected
    /// (421). Pages of its origin are pages of this server, and examples in error messages use the
    /// URL.
    #[arg(
        long = "public-url",
        env = "SSE_PUBLIC_URL",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = str::parse::<PublicUrl>
    )]
    pub(super) public_urls: Vec<PublicUrl>,

    /// Believe what this proxy reports about its clients (repeatable; comma-separated in the
    /// variable)
    ///
    /// An address, a network such as `10.0.0.0/8`, or `unix` for all who may connect to a unix
    /// socket. The client is then the last address in `Forwarded`, or in `X-Forwarded-For` if there
    /// is no `Forwarded`, that is not a trusted proxy. Limits and logs use it. The proxy must
    /// replace both headers.
    #[arg(
        long = "trusted-proxy",
        env = "SSE_TRUSTED_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = str::parse::<TrustedProxy>
    )]
    pub(super) trusted_proxies: Vec<TrustedProxy>,

    /// Let browsers use only HTTPS for this host during this time (Strict-Transport-Security)
    ///
    /// Only for a server that all clients reach over HTTPS. Browsers remember it, and 0s makes them
    /// forget it.
    #[arg(long, env = "SSE_HSTS", value_name = "DURATION", value_parser = parse_duration)]
    pub(super) hsts: Option<Duration>,
}

impl NetworkArgs {
    /// The addresses of clients, and then those of operators.
    pub(super) fn all_addresses(&self) -> Vec<ListenAddress> {
        let operators = self.admin_addresses.iter().cloned();
        let clients = self.addresses.iter().cloned();
        if self.admin_addresses.is_empty() {
            return clients.collect();
        }
        let clients = clients.map(ListenAddress::for_clients);
        clients
            .chain(operators.map(ListenAddress::for_operators))
            .collect()
    }

    /// The first public URL.
    pub(super) fn public_url(&self) -> Option<String> {
        self.public_urls.first().map(|url| url.with_path(""))
    }

    /// The origins and URLs that the flags name.
    pub(super) fn named_origins(&self) -> NamedOrigins {
        NamedOrigins {
            readers: self.cors_origins.clone(),
            publishers: self.publish_origins.clone(),
            own: self.public_urls.clone(),
            credentials: self.cors_credentials,
        }
    }
}
