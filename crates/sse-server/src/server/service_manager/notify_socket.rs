//! The datagram socket of the service manager.

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::{
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// Time for one message. The service manager reads its socket at once, unless it hangs.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that sends to the service manager.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl NotifySocket {
    /// Opens the socket that the environment names; `None` if it names none.
    ///
    /// A server that cannot report works all the same, so an error is only logged.
    pub(super) fn from_environment() -> Option<Self> {
        let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
        Self::open(&name)
            .inspect_err(|error| {
                tracing::warn!(%error, "the service manager cannot be notified");
            })
            .ok()
    }

    fn open(name: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self {
            socket,
            manager: address(name)?,
        })
    }

    pub(super) fn send(&self, message: &str) {
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.manager);
        if let Err(error) = sent {
            tracing::debug!(%error, "a message to the service manager was lost");
        }
    }
}

/// Parses a path, or the name of an abstract socket after `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(Path::new(name)),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE} is not the path of a unix socket"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_a_path_or_an_abstract_socket() {
        assert!(address(OsStr::new("/run/systemd/notify")).is_ok());
        #[cfg(target_os = "linux")]
        assert_eq!(
            address(OsStr::new("@notify")).unwrap().as_abstract_name(),
            Some(&b"notify"[..])
        );
        for name in ["notify", "vsock:2:1234"] {
            assert!(address(OsStr::new(name)).is_err(), "{name}");
        }
    }
}
