//! Source addresses of the connections.
//!
//! A source address has about 28 000 ports, so more connections need more addresses. On Linux all
//! of 127.0.0.0/8 is this machine, so connections to a loopback address get further sources by
//! default.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// Connections per loopback address: well below its ports, because the ports of closed connections
/// cannot be used again for a while.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// The addresses to connect from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources(Vec<IpAddr>);

impl Sources {
    /// Returns the addresses that the user named. If there are none, many connections to IPv4
    /// loopback addresses get as many sources as they need. Otherwise the operating system chooses.
    pub(crate) fn new(named: &[IpAddr], targets: &[SocketAddr], connections: usize) -> Self {
        let loopback = |target: &SocketAddr| matches!(target.ip(), IpAddr::V4(address) if address.is_loopback());
        let needs_more = named.is_empty()
            && cfg!(target_os = "linux")
            && connections > CONNECTIONS_PER_SOURCE
            && targets.iter().all(loopback);
        if !needs_more {
            return Self(named.to_vec());
        }
        let count = u32::try_from(connections.div_ceil(CONNECTIONS_PER_SOURCE))
            .unwrap_or(u32::MAX)
            .min(1 << 16);
        let first = u32::from(Ipv4Addr::LOCALHOST);
        Self(
            (first..first + count)
                .map(|address| IpAddr::V4(address.into()))
                .collect(),
        )
    }

    /// The addresses; empty if the operating system chooses.
    pub(crate) fn list(&self) -> &[IpAddr] {
        &self.0
    }

    /// The source of a connection to `target`. The sources of the same IP version are used in turn.
    fn source_for(&self, connection: usize, target: SocketAddr) -> Option<IpAddr> {
        let fits = |address: &&IpAddr| address.is_ipv4() == target.is_ipv4();
        let fitting = self.0.iter().filter(fits).count();
        self.0
            .iter()
            .filter(fits)
            .nth(connection.checked_rem(fitting)?)
            .copied()
    }

    /// Begins a connect, without waiting for it.
    pub(crate) fn connect(&self, connection: usize, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(source) = self.source_for(connection, target) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if !is_in_progress(&error) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(named: &[&str], target: &str, connections: usize) -> Sources {
        let named: Vec<IpAddr> = named
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        Sources::new(&named, &[target.parse().expect("an address")], connections)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn many_connections_to_this_machine_get_more_sources() {
        assert!(sources(&[], "127.0.0.1:1", 10_000).list().is_empty());
        assert_eq!(
            sources(&[], "127.0.0.1:1", 10_001),
            sources(&["127.0.0.1", "127.0.0.2"], "127.0.0.1:1", 1)
        );
        assert_eq!(
            sources(&[], "127.0.0.1:1", 3_000_000).list()[299].to_string(),
            "127.0.1.44"
        );
        assert!(sources(&[], "10.0.0.1:1", 100_000).list().is_empty());
        assert!(sources(&[], "[::1]:1", 100_000).list().is_empty());
    }

    #[test]
    fn connections_use_the_sources_in_turn() {
        let named = sources(&["127.0.0.5", "::1", "127.0.0.6"], "127.0.0.1:1", 1_000_000);
        let source = |connection, target: &str| {
            named
                .source_for(connection, target.parse().expect("an address"))
                .map(|a| a.to_string())
        };
        assert_eq!(source(0, "127.0.0.1:1").as_deref(), Some("127.0.0.5"));
        assert_eq!(source(3, "127.0.0.1:1").as_deref(), Some("127.0.0.6"));
        assert_eq!(source(3, "[::1]:1").as_deref(), Some("::1"));
        assert_eq!(
            sources(&["::1"], "127.0.0.1:1", 1)
                .source_for(0, "127.0.0.1:1".parse().expect("an address")),
            None
        );
    }
}
