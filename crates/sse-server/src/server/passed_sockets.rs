//! Listening sockets that the service manager passes (`LISTEN_FDS`).
//!
//! A passed socket is used in place of a new one for the `--bind` with the same address. So the
//! rules for addresses, such as the one about access from other machines, hold for it too, and
//! `--bind https://…` chooses TLS for it. The file of a passed unix socket belongs to the service
//! manager, and stays.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use listenfd::ListenFd;
use socket2::SockRef;

use super::listen::ListeningSocket;
use crate::Endpoint;

/// Sockets that no address has claimed yet.
#[derive(Default)]
pub struct PassedSockets(Vec<ListeningSocket>);

impl PassedSockets {
    /// Takes the sockets from the environment, which does not name them any more afterwards.
    ///
    /// Must be called before the first thread starts, because it changes the environment.
    ///
    /// # Errors
    ///
    /// One of them is not a listening socket of TCP or of a unix socket.
    pub fn take_from_environment() -> anyhow::Result<Self> {
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|index| {
            take(&mut passed, index).with_context(|| {
                format!("the service manager passed a wrong socket (number {index} of LISTEN_FDS)")
            })
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Removes the socket that listens at `endpoint`.
    pub(super) fn claim(&mut self, endpoint: &Endpoint) -> Option<ListeningSocket> {
        let listens_there = |socket: &ListeningSocket| match endpoint {
            Endpoint::Tcp(address) => tcp_address(socket) == Some(*address),
            Endpoint::Unix(path) => unix_path(socket, |found| found == &**path),
        };
        let index = self.0.iter().position(listens_there)?;
        Some(self.0.swap_remove(index))
    }

    /// Checks that every socket was claimed.
    ///
    /// # Errors
    ///
    /// Names the addresses of the others.
    pub(super) fn check_all_claimed(&self) -> anyhow::Result<()> {
        let addresses: Vec<_> = self.0.iter().map(describe).collect();
        ensure!(
            addresses.is_empty(),
            "the service manager passed sockets that no --bind names: add --bind {} (with https:// \
             before it for TLS), or remove them from the socket unit",
            addresses.join(" --bind ")
        );
        Ok(())
    }
}

fn take(passed: &mut ListenFd, index: usize) -> anyhow::Result<ListeningSocket> {
    let socket = if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
        socket.set_nonblocking(true)?;
        ListeningSocket::Tcp(socket)
    } else if let Ok(Some(socket)) = passed.take_unix_listener(index) {
        socket.set_nonblocking(true)?;
        ListeningSocket::Unix(socket)
    } else {
        bail!("it is neither a TCP socket nor a unix stream socket; use ListenStream=");
    };
    ensure!(
        is_listening(&socket)?,
        "it is a connection; set Accept=no in the socket unit"
    );
    Ok(socket)
}

fn is_listening(socket: &ListeningSocket) -> io::Result<bool> {
    match socket {
        ListeningSocket::Tcp(socket) => SockRef::from(socket).is_listener(),
        ListeningSocket::Unix(socket) => SockRef::from(socket).is_listener(),
    }
}

fn tcp_address(socket: &ListeningSocket) -> Option<SocketAddr> {
    match socket {
        ListeningSocket::Tcp(socket) => TcpListener::local_addr(socket).ok(),
        ListeningSocket::Unix(_) => None,
    }
}

/// Whether the path of a unix socket satisfies `is_wanted`.
fn unix_path(socket: &ListeningSocket, is_wanted: impl Fn(&Path) -> bool) -> bool {
    match socket {
        ListeningSocket::Unix(socket) => UnixListener::local_addr(socket)
            .is_ok_and(|address| address.as_pathname().is_some_and(is_wanted)),
        ListeningSocket::Tcp(_) => false,
    }
}

fn describe(socket: &ListeningSocket) -> String {
    match socket {
        ListeningSocket::Tcp(_) => {
            tcp_address(socket).map_or_else(|| "ADDRESS".to_owned(), |address| address.to_string())
        }
        ListeningSocket::Unix(socket) => {
            let address = socket.local_addr().ok();
            let path = address.as_ref().and_then(|address| address.as_pathname());
            path.map_or_else(
                || "unix:PATH".to_owned(),
                |path| format!("unix:{}", path.display()),
            )
        }
    }
}
