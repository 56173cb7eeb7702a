//! Why a connection is closed, and names by which equal errors are counted together.

use std::io;

use crate::load::response::Rejection;

/// No local port is left, or a `--source` is not an address of this machine.
pub(crate) const NO_PORTS: &str = "no free local port or address";
/// The limit of open files is reached.
pub(crate) const NO_FILES: &str = "too many open files";

/// Why a connection is closed.
#[derive(Debug)]
pub(crate) enum CloseReason {
    /// The server ended the stream properly.
    Ended,
    /// The connection broke, with an error of this kind.
    Broken(&'static str),
    /// The response was not a stream. The bytes are the server's message, if it was read.
    Rejected(Rejection, Vec<u8>),
    /// The stream has ended for good (204).
    NoContent,
    /// The connection has received all the events that it should.
    Enough,
}

/// The kind of an error.
pub(crate) fn error_kind(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            Errno::MFILE | Errno::NFILE => return NO_FILES,
            Errno::NOBUFS | Errno::NOMEM => return "no memory for sockets",
            _ => {}
        }
    }
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => "connection reset",
        Kind::TimedOut => "timed out",
        Kind::AddrNotAvailable | Kind::AddrInUse => NO_PORTS,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            "no route to the server"
        }
        Kind::PermissionDenied => "not permitted",
        _ => "another error",
    }
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn errors_with_the_same_remedy_have_the_same_kind() {
        let kind = |errno: Errno| error_kind(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert_eq!([Errno::MFILE, Errno::NFILE].map(kind), [NO_FILES; 2]);
        assert_eq!(
            [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE].map(kind),
            [NO_PORTS; 2]
        );
        assert_eq!(kind(Errno::CONNREFUSED), "connection refused");
    }
}
