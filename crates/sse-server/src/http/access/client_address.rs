//! The address of the client that sent a request: the peer of the connection, or what trusted
//! proxies report about it.
//!
//! ```text
//!  client ──────► outer proxy ──────► inner proxy ──────► server
//!  203.0.113.7    10.0.0.1            10.0.0.2            --trusted-proxy 10.0.0.0/8
//!
//!                 X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.0.0.1       peer 10.0.0.2
//!                                  │        │            ◄── trusted ◄── trusted
//!                                  │        └── the client: the first address that is not trusted
//!                                  └── never read: the client can write what it likes
//! ```
//!
//! Each proxy appends the address of its own peer, so the walk begins at the peer of the connection
//! and goes from the right to the left. It ends at the first address that is not trusted. It also
//! ends at a hop without an address, and the last known address counts then, which is that of a
//! proxy. If a request has `Forwarded` and `X-Forwarded-For`, `Forwarded` counts.
//!
//! [`resolve_client`] replaces the peer of the request by the result. So limits, logs and lists
//! use it without knowing about proxies. Limits of connections count the peer itself, unless it is
//! trusted.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use actix_http::RequestHead;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;
use ipnet::IpNet;

use super::forwarded::hops;
use crate::{ListenAddress, http::state::AppState};

/// Hops of a request that are read. A longer chain of trusted proxies is a defect.
const HOPS_MAX: usize = 32;

/// A value of `--trusted-proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Proxies with these addresses.
    Net(IpNet),
    /// Every program that may connect to a unix socket of the server.
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let net = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            "write an address such as 10.0.0.1, a network such as 10.0.0.0/8 or 2001:db8::/32, or \
             unix"
                .to_owned()
        })?;
        match net {
            IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some() => {
                Err("write the IPv4 address without ::ffff:".to_owned())
            }
            net => Ok(Self::Net(net.trunc())),
        }
    }
}

/// The proxies whose reports about clients are believed; clones share them.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    nets: Arc<[IpNet]>,
    trusts_unix_sockets: bool,
}

impl TrustedProxies {
    /// Trusts the named proxies.
    #[must_use]
    pub fn new(proxies: &[TrustedProxy]) -> Self {
        let nets = IpNet::aggregate(&proxies.iter().filter_map(net_of).collect());
        Self {
            nets: nets.into(),
            trusts_unix_sockets: proxies.contains(&TrustedProxy::Unix),
        }
    }

    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty() && !self.trusts_unix_sockets
    }

    /// Whether this is the address of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Returns the address of the client that sent a request to the listening socket `to`; `None`
    /// if no address is known.
    ///
    /// The result for a head whose peer is the result of an earlier call is the same.
    pub(in crate::http) fn client_address(
        &self,
        head: &RequestHead,
        to: &ListenAddress,
    ) -> Option<SocketAddr> {
        let peer = head.peer_addr;
        let is_trusted = match peer {
            Some(peer) => self.contains(peer.ip()),
            None => self.trusts_unix_sockets && to.tcp().is_none(),
        };
        if !is_trusted {
            return peer;
        }
        let reported = self.walk(hops(&head.headers));
        reported.map(|address| SocketAddr::new(address, 0)).or(peer)
    }

    /// Follows the hops, the last one first. Returns the address of the client, or of the last
    /// proxy that is known; `None` if that is the peer.
    fn walk(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut last_known = None;
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = hop else { break };
            last_known = Some(address);
            if !self.contains(address) {
                break;
            }
        }
        last_known
    }
}

fn net_of(proxy: &TrustedProxy) -> Option<IpNet> {
    match proxy {
        TrustedProxy::Net(net) => Some(*net),
        TrustedProxy::Unix => None,
    }
}

/// Middleware: replaces the peer of the request by the client.
///
/// # Errors
///
/// Those of the services inside.
pub async fn resolve_client<B: MessageBody>(
    state: LocalData<AppState>,
    to: LocalData<ListenAddress>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let client = state.trusted_proxies.client_address(request.head(), &to);
    request.head_mut().peer_addr = client;
    next.call(request).await
}

#[cfg(test)]
mod tests;
