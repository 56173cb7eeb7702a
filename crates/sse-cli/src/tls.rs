//! The certificates to trust (`--insecure`, `--cacert`), and errors of a TLS handshake.

use std::{error::Error, io};

use reqwest::{Certificate, ClientBuilder};
use rustls::{
    CertificateError, OtherError,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Message for [`is_not_tls`].
pub const NOT_TLS: &str = "the server does not speak TLS at this port: write http:// instead of https://, \
                           or give the port for https";

/// The certificates of a file in the format PEM: the value of `--cacert`.
#[derive(Debug, Clone)]
pub struct TrustedCertificates {
    for_reqwest: Vec<Certificate>,
    pub(crate) for_rustls: Vec<CertificateDer<'static>>,
}

impl TrustedCertificates {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has no certificate. The error names the file.
    pub fn read(path: &str) -> Result<Self, String> {
        let pem = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        Self::parse(&pem).ok_or_else(|| {
            format!(
                "{path} has no certificate: give a file in the format PEM, \
                 with the lines BEGIN CERTIFICATE and END CERTIFICATE"
            )
        })
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let for_rustls: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .ok()?;
        let for_reqwest = Certificate::from_pem_bundle(pem).ok()?;
        (!for_rustls.is_empty()).then_some(Self {
            for_reqwest,
            for_rustls,
        })
    }
}

/// Which certificates of servers are accepted.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsTrust<'a> {
    /// Any certificate.
    pub insecure: bool,
    /// Certificates to trust instead of those of the system.
    pub trusted: Option<&'a TrustedCertificates>,
}

impl TlsTrust<'_> {
    /// Applies the settings to a client.
    pub fn apply(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.tls_danger_accept_invalid_certs(self.insecure);
        match self.trusted {
            Some(certificates) => builder.tls_certs_only(certificates.for_reqwest.iter().cloned()),
            None => builder,
        }
    }

    /// Checks that the two settings do not contradict each other.
    ///
    /// # Errors
    ///
    /// The text names the one to remove.
    pub fn check(self) -> Result<(), String> {
        if self.insecure && self.trusted.is_some() {
            Err(
                "--insecure accepts any certificate, so --cacert has no effect: remove one of them"
                    .to_owned(),
            )
        } else {
            Ok(())
        }
    }
}

/// Returns whether the certificate of the server is not trusted.
#[must_use]
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    tls_causes(error).any(|cause| matches!(cause, rustls::Error::InvalidCertificate(_)))
}

/// Describes what to do about an error for which [`is_untrusted`] holds.
///
/// `has_cacert` is whether `--cacert` was given. A certificate of `openssl req -x509` is that of an
/// authority, and rustls does not accept it as the server's own.
#[must_use]
pub fn untrusted_remedy(error: &(dyn Error + 'static), has_cacert: bool) -> &'static str {
    if tls_causes(error).any(is_authority) {
        "the server presents the certificate of an authority (CA:TRUE) as its own: issue one by \
         that authority, or make a self-signed one by openssl req -x509 \
         -addext basicConstraints=critical,CA:FALSE; or skip the check by --insecure"
    } else if has_cacert {
        "the server's certificate is neither in the file of --cacert nor issued by an authority in \
         it, or is not valid for this host and time; --insecure skips the check"
    } else {
        "for a server of your own, give its certificate by --cacert, or skip the check by --insecure"
    }
}

/// Whether the certificate of an authority is used as that of a server.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error else {
        return false;
    };
    // The type of this error is not public in rustls.
    why.to_string().contains("CaUsedAsEndEntity")
}

/// Returns whether the other side does not speak TLS, most likely because its port is for plain
/// HTTP.
#[must_use]
pub fn is_not_tls(error: &(dyn Error + 'static)) -> bool {
    tls_causes(error).any(|cause| matches!(cause, rustls::Error::InvalidMessage(_)))
}

fn tls_causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e rustls::Error> {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|cause| unwrap_io_errors(cause).downcast_ref())
}

/// The error inside of nested `io::Error`s, whose `source` skips it.
fn unwrap_io_errors<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    fn in_io_errors(error: rustls::Error) -> io::Error {
        io::Error::other(io::Error::other(error))
    }

    #[test]
    fn errors_of_a_handshake_are_found_within_other_errors() {
        let plain = in_io_errors(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType,
        ));
        assert!(is_not_tls(&plain) && !is_untrusted(&plain));
        let expired = in_io_errors(rustls::Error::InvalidCertificate(CertificateError::Expired));
        assert!(is_untrusted(&expired) && !is_not_tls(&expired));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!is_untrusted(&refused) && !is_not_tls(&refused));
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let path = path.to_str().expect("a plain path");
        let error = TrustedCertificates::read(path).expect_err("no file");
        assert!(
            error.starts_with(&format!("cannot read {path}: ")),
            "{error}"
        );
        for text in [
            "",
            "none",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(path, text).expect("a file");
            let error = TrustedCertificates::read(path).expect_err("no certificate");
            assert!(error.contains(path) && error.contains("PEM"), "{error}");
        }
    }
}
