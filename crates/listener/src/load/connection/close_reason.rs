//! Why a connection is closed, and names by which equal errors are counted together.

use std::{error::Error, io};

use rustls::{AlertDescription, Error as TlsError};

use crate::load::{http2::NoHttp2, response::Rejection};

/// No local port is left, or a `--source` is not an address of this machine.
pub(crate) const NO_PORTS: &str = "no free local port or address";
/// The limit of open files is reached.
pub(crate) const NO_FILES: &str = "too many open files";
/// The certificate of the server is not accepted.
pub(crate) const UNTRUSTED: &str = "the server's certificate is not trusted";
/// The server's port is probably for plain HTTP.
pub(crate) const NOT_TLS: &str = "the server does not speak TLS";
/// The server offers no HTTP/2.
pub(crate) const NO_HTTP_2: &str = "the server does not speak HTTP/2";

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
    if let Some(kind) = error.get_ref().and_then(protocol_error_kind) {
        return kind;
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

/// The kind of an error of TLS, or of the choice of a protocol.
fn protocol_error_kind(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    if error.is::<NoHttp2>() {
        return Some(NO_HTTP_2);
    }
    Some(match error.downcast_ref::<TlsError>()? {
        TlsError::InvalidCertificate(_) => UNTRUSTED,
        TlsError::InvalidMessage(_) => NOT_TLS,
        TlsError::NoApplicationProtocol
        | TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => NO_HTTP_2,
        TlsError::AlertReceived(_) => "the server ended the TLS session with an alert",
        _ => "the TLS session failed",
    })
}

/// The kind of an error of HTTP/2.
pub(crate) fn http2_error_kind(error: &h2::Error) -> &'static str {
    match error.get_io() {
        Some(error) => error_kind(error),
        None if error.is_go_away() => "the server closed the HTTP/2 connection",
        None if error.is_reset() => "the server reset the HTTP/2 stream",
        None => "HTTP/2 failed",
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

    #[test]
    fn errors_of_tls_and_of_its_protocol_are_found_inside_of_others() {
        let expired = TlsError::InvalidCertificate(rustls::CertificateError::Expired);
        let rejected = TlsError::AlertReceived(AlertDescription::NoApplicationProtocol);
        for (error, kind) in [
            (
                io::Error::new(io::ErrorKind::InvalidData, expired),
                UNTRUSTED,
            ),
            (io::Error::other(NoHttp2), NO_HTTP_2),
            (io::Error::other(rejected), NO_HTTP_2),
            (io::Error::other("something"), "another error"),
        ] {
            assert_eq!(error_kind(&error), kind);
        }
    }
}
