//! From which addresses the connections are made.
//!
//! A source address has some 28 000 ports, so one address is not enough for very many connections. On Linux all of
//! 127.0.0.0/8 is this machine: connections to it get further sources by themselves.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// Connections for each loopback address: well below its ports, of which those of closed connections rest for a while.
const CONNECTIONS_FOR_EACH: usize = 10_000;

/// The addresses to connect from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources(Vec<IpAddr>);

impl Sources {
    /// Those that the user named; or, for many connections to IPv4 loopback addresses, as many as needed. None at all
    /// leaves the choice to the operating system.
    pub(crate) fn new(named: &[IpAddr], targets: &[SocketAddr], connections: usize) -> Self {
        let loopback = |target: &SocketAddr| matches!(target.ip(), IpAddr::V4(address) if address.is_loopback());
        let by_itself = named.is_empty()
            && cfg!(target_os = "linux")
            && connections > CONNECTIONS_FOR_EACH
            && targets.iter().all(loopback);
        if !by_itself {
            return Self(named.to_vec());
        }
        let count = u32::try_from(connections.div_ceil(CONNECTIONS_FOR_EACH))
            .unwrap_or(u32::MAX)
            .min(1 << 16);
        let first = u32::from(Ipv4Addr::LOCALHOST);
        Self(
            (first..first + count)
                .map(|address| IpAddr::V4(address.into()))
                .collect(),
        )
    }

    /// All of them, for the report.
    pub(crate) fn list(&self) -> &[IpAddr] {
        &self.0
    }

    /// The source of a connection to `target`, in turn among those of its kind.
    fn of(&self, connection: usize, target: SocketAddr) -> Option<IpAddr> {
        let fits = |address: &&IpAddr| address.is_ipv4() == target.is_ipv4();
        let fitting = self.0.iter().filter(fits).count();
        self.0
            .iter()
            .filter(fits)
            .nth(connection.checked_rem(fitting)?)
            .copied()
    }

    /// Begins to connect.
    pub(crate) fn connect(&self, connection: usize, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(source) = self.of(connection, target) {
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
    fn connections_take_them_in_turn() {
        let named = sources(&["127.0.0.5", "::1", "127.0.0.6"], "127.0.0.1:1", 1_000_000);
        let of = |connection, target: &str| {
            named
                .of(connection, target.parse().expect("an address"))
                .map(|a| a.to_string())
        };
        assert_eq!(of(0, "127.0.0.1:1").as_deref(), Some("127.0.0.5"));
        assert_eq!(of(3, "127.0.0.1:1").as_deref(), Some("127.0.0.6"));
        assert_eq!(of(3, "[::1]:1").as_deref(), Some("::1"));
        assert_eq!(
            sources(&["::1"], "127.0.0.1:1", 1).of(0, "127.0.0.1:1".parse().expect("an address")),
            None
        );
    }
}
