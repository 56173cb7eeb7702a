//! The listening sockets.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    passed_sockets::PassedSockets,
    unix_socket::{self, SocketFile},
};
use crate::{Endpoint, ListenAddress};

/// Connections that wait to be accepted, per socket.
pub(super) const BACKLOG: i32 = 4096;

/// A listening socket.
pub(super) struct Listener {
    /// Where it listens; a free port is chosen.
    pub(super) address: ListenAddress,
    pub(super) socket: ListeningSocket,
}

/// A socket that does not block.
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets of a server, and the files that belong to them.
pub(super) struct Listening {
    pub(super) listeners: Vec<Listener>,
    pub(super) files: Vec<SocketFile>,
}

/// Listens on all `addresses`. The files of unix sockets get the permissions `mode`.
///
/// A socket that the service manager has `passed` replaces a new one.
///
/// # Errors
///
/// An address is in use, not of this machine, or needs permission. The message names the address
/// and contains advice. Or a passed socket has none of these addresses.
pub(super) async fn bind_all(
    addresses: &[ListenAddress],
    mode: u32,
    mut passed: PassedSockets,
) -> anyhow::Result<Listening> {
    let (mut listeners, mut files) = (Vec::new(), Vec::new());
    for address in addresses {
        if let Some(socket) = passed.claim(address.endpoint()) {
            let address = address.clone();
            listeners.push(Listener { address, socket });
            continue;
        }
        let socket = match address.endpoint() {
            Endpoint::Tcp(tcp) => {
                let is_shared = shares_port_with_ipv4(*tcp, addresses);
                ListeningSocket::Tcp(bind_tcp(*tcp, is_shared)?)
            }
            Endpoint::Unix(path) => {
                let (socket, file) = unix_socket::bind(path, mode)
                    .await
                    .with_context(|| format!("cannot listen on {address}"))?;
                files.push(file);
                ListeningSocket::Unix(socket)
            }
        };
        listeners.push(Listener {
            address: bound_address(address, &socket)?,
            socket,
        });
    }
    passed.check_all_claimed()?;
    Ok(Listening { listeners, files })
}

/// Returns the address with the port that the system has chosen.
fn bound_address(
    address: &ListenAddress,
    socket: &ListeningSocket,
) -> anyhow::Result<ListenAddress> {
    Ok(match socket {
        ListeningSocket::Tcp(socket) => {
            let bound = socket.local_addr().context("the address of the socket")?;
            address.at(Endpoint::Tcp(bound))
        }
        ListeningSocket::Unix(_) => address.clone(),
    })
}

/// Whether an IPv4 address with the port of this IPv6 address is given too.
///
/// The socket of `[::]` also accepts connections over IPv4, unless another socket does.
fn shares_port_with_ipv4(address: SocketAddr, all: &[ListenAddress]) -> bool {
    let port = address.port();
    let shares = |other: &ListenAddress| {
        let other = other.tcp();
        other.is_some_and(|other| other.is_ipv4() && other.port() == port)
    };
    address.ip().to_canonical().is_ipv6() && port != 0 && all.iter().any(shares)
}

fn bind_tcp(address: SocketAddr, only_ipv6: bool) -> anyhow::Result<TcpListener> {
    open_tcp(address, only_ipv6).map_err(|error| {
        let advice = advice(error.kind());
        anyhow::Error::new(error).context(format!("cannot listen on {address}: {advice}"))
    })
}

fn open_tcp(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = tcp_socket(Domain::for_address(address))?;
    // Without this option, a restart has to wait until the kernel has forgotten the connections of
    // the last run.
    socket.set_reuse_address(true)?;
    if only_ipv6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn tcp_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

const fn advice(error: ErrorKind) -> &'static str {
    match error {
        ErrorKind::AddrInUse => {
            "is another server running there? --bind 127.0.0.1:0 takes a free port"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; --bind 127.0.0.1:5000 is the default"
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 need permission; choose a higher one with --bind"
        }
        _ => "choose another address with --bind",
    }
}
