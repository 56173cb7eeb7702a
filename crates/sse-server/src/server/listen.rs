//! The listening socket.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Listens on `address`.
///
/// # Errors
///
/// The address is in use, not of this machine, or needs permission; the message contains advice.
pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    open(address).map_err(|error| {
        let advice = advice(error.kind());
        anyhow::Error::new(error).context(format!("cannot listen on {address}: {advice}"))
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(Domain::for_address(address))?;
    // Without this option, a restart has to wait until the kernel has forgotten the connections of
    // the last run.
    socket.set_reuse_address(true)?;
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
