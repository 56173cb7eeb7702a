//! The settings, prepared for the engine: addresses instead of names, bytes instead of a request.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use sse_cli::tls_client::client_config;
use url::Url;

use super::{
    LoadError,
    collector::CollectorRules,
    request::RequestBytes,
    sources::Sources,
    transport::{TlsTransport, Transport},
};
use crate::settings::{
    load::{LoadSettings, NOTHING},
    stream_url::StreamUrl,
    target::Target,
};

/// Time for a connect to one of several addresses, before the next one is tried.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// One URL of the stream.
pub(crate) struct Node {
    pub(crate) request: RequestBytes,
    pub(crate) address: SocketAddr,
    /// How TLS is set up; `None` for plain HTTP.
    tls: Option<NodeTls>,
}

/// The settings of TLS, and the name that the certificate must have.
struct NodeTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// The task of the engine.
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) sources: Sources,
    /// Number of streams.
    pub(crate) connections: u32,
    /// Streams per connection over HTTP/2; `None` for HTTP/1.1.
    pub(crate) http2_streams: Option<u32>,
    /// Number of sockets.
    pub(crate) sockets: u32,
    pub(crate) ramp: Option<Duration>,
    pub(crate) duration: Option<Duration>,
    pub(crate) settle_time: Duration,
    /// Period of the cuts, and the share of the streams to cut.
    pub(crate) cuts: Option<(Duration, f64)>,
    pub(crate) seed: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) event_bytes_max: usize,
    pub(crate) rules: CollectorRules,
    /// The last event id to begin with; empty if there is none.
    pub(crate) first_id: String,
}

/// The host of a URL has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host of {url} has no address: check its spelling, and whether this machine resolves names"
)]
pub struct NoAddress {
    url: String,
    #[source]
    cause: Option<io::Error>,
}

impl Plan {
    /// Prepares these settings. `seed` is used if the settings have none.
    ///
    /// # Errors
    /// [`LoadError::Address`], [`LoadError::Tls`].
    pub(crate) fn new(settings: &LoadSettings, seed: u64) -> Result<Self, LoadError> {
        let target = &settings.target;
        let nodes = build_nodes(target, settings.http2_streams.is_some())?;
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        Ok(Self {
            sources: Sources::new(&settings.sources, &addresses, settings.sockets() as usize),
            nodes,
            connections: settings.connections,
            http2_streams: settings.http2_streams,
            sockets: settings.sockets(),
            ramp: settings.ramp,
            duration: settings.duration,
            settle_time: settings.settle_time,
            cuts: settings
                .cut_every
                .map(|every| (every, settings.cut_share.0)),
            seed: settings.seed.unwrap_or(seed),
            idle_timeout: settings.idle_timeout,
            event_bytes_max: settings.max_event_size,
            rules: build_rules(settings),
            first_id: target.last_event_id.clone().unwrap_or_default(),
        })
    }

    /// Returns the node for the `nth` choice. The nodes are used in turn.
    pub(crate) fn node(&self, nth: usize) -> &Node {
        &self.nodes[nth % self.nodes.len()]
    }
}

impl Node {
    /// Prepares a socket that connects to this node.
    ///
    /// # Errors
    /// The TLS session cannot be created.
    pub(crate) fn transport(
        &self,
        socket: mio::net::TcpStream,
    ) -> Result<Transport, rustls::Error> {
        let Some(tls) = &self.tls else {
            return Ok(Transport::Plain(socket));
        };
        let session = TlsTransport::new(socket, Arc::clone(&tls.config), tls.name.clone())?;
        Ok(Transport::Tls(Box::new(session)))
    }
}

fn build_nodes(target: &Target, is_http2: bool) -> Result<Vec<Node>, LoadError> {
    let config = build_tls(target, is_http2).map_err(LoadError::Tls)?;
    let build_node = |url: &StreamUrl| {
        let tls = config.as_ref().filter(|_| url.is_https());
        Ok(Node {
            request: RequestBytes::new(target, url),
            address: resolve_address(&url.with_query(NOTHING), url)?,
            tls: tls
                .map(|config| NodeTls::new(config, &url.with_query(NOTHING)))
                .transpose()
                .map_err(LoadError::Tls)?,
        })
    };
    target.urls().map(build_node).collect()
}

/// Returns the settings of TLS. Returns `None` if no URL needs them, because the certificates of the
/// system may be missing.
fn build_tls(target: &Target, is_http2: bool) -> Result<Option<Arc<ClientConfig>>, rustls::Error> {
    if !target.urls().any(StreamUrl::is_https) {
        return Ok(None);
    }
    let protocol: &[u8] = if is_http2 { b"h2" } else { b"http/1.1" };
    client_config(target.tls_trust(), &[protocol]).map(|config| Some(Arc::new(config)))
}

impl NodeTls {
    fn new(config: &Arc<ClientConfig>, url: &Url) -> Result<Self, rustls::Error> {
        let host = host_of(url);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| rustls::Error::General(format!("a certificate cannot name {host}")))?;
        Ok(Self {
            config: Arc::clone(config),
            name,
        })
    }
}

/// The host of a URL; an IPv6 address without its brackets.
fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_matches(['[', ']'])
}

fn build_rules(settings: &LoadSettings) -> CollectorRules {
    CollectorRules {
        time_field: settings.time_field.clone(),
        judged: settings.why_loss_is_not_judged().is_none(),
        count: settings.count.map(Into::into),
    }
}

/// Resolves the host of a URL. Of several addresses, returns the first that accepts a connection: a
/// server may listen on only one of the addresses of `localhost`.
fn resolve_address(url: &Url, shown: &StreamUrl) -> Result<SocketAddr, NoAddress> {
    let none = |cause| NoAddress {
        url: shown.to_string(),
        cause,
    };
    let found = (host_of(url), url.port_or_known_default().unwrap_or(80)).to_socket_addrs();
    let addresses: Vec<_> = found.map_err(|error| none(Some(error)))?.collect();
    choose_address(&addresses).ok_or_else(|| none(None))
}

/// Returns the only address, or the first that accepts a connection, or the first.
fn choose_address(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, PROBE_MAX).is_ok();
    match addresses {
        [] | [_] => addresses.first(),
        [first, ..] => addresses.iter().find(accepts).or(Some(first)),
    }
    .copied()
}
