//! The settings, prepared for the engine: addresses instead of names, bytes instead of a request.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use url::Url;

use super::{collector::CollectorRules, request::RequestBytes, sources::Sources};
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
}

/// The task of the engine.
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) sources: Sources,
    pub(crate) connections: u32,
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
    /// [`NoAddress`].
    pub(crate) fn new(settings: &LoadSettings, seed: u64) -> Result<Self, NoAddress> {
        let target = &settings.target;
        let nodes = build_nodes(target)?;
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        Ok(Self {
            sources: Sources::new(&settings.sources, &addresses, settings.connections as usize),
            nodes,
            connections: settings.connections,
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

fn build_nodes(target: &Target) -> Result<Vec<Node>, NoAddress> {
    let build_node = |url: &StreamUrl| {
        Ok(Node {
            request: RequestBytes::new(target, url),
            address: resolve_address(&url.with_query(NOTHING), url)?,
        })
    };
    target.urls().map(build_node).collect()
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
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let found = (host, url.port_or_known_default().unwrap_or(80)).to_socket_addrs();
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
