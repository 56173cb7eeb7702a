//! A certificate and its private key, read from PEM files.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    Error, InconsistentKeys, SignatureScheme,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// A larger file is rejected. It is not a certificate with its chain.
const BYTES_MAX: u64 = 1 << 20;

/// The PEM files of a certificate and of its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and the intermediate certificates behind it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file is too large.
    #[error("{0} is larger than 1 MiB")]
    TooLarge(PathBuf),
    /// There is no certificate.
    #[error("{0} contains no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(PathBuf),
    /// There is no private key.
    #[error(
        "{0} contains no private key in PEM that is not encrypted (-----BEGIN PRIVATE KEY-----)"
    )]
    NoKey(PathBuf),
    /// The certificate belongs to another key.
    #[error("the key in {} does not belong to the certificate in {}", .0.key.display(), .0.certificate.display())]
    Mismatch(CertificateFiles),
    /// TLS cannot use the key or the certificate.
    #[error("the certificate in {} or its key cannot be used", .0.certificate.display())]
    Unusable(CertificateFiles, #[source] Error),
}

/// Which contents files have, as far as that is known without reading them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileStamps(Vec<Option<[i64; 5]>>);

impl CertificateFiles {
    /// Returns what changes when one of the files is written or replaced.
    pub(super) fn stamps(&self) -> FileStamps {
        let stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some([
                metadata.mtime(),
                metadata.mtime_nsec(),
                i64::try_from(metadata.ino()).unwrap_or(i64::MAX),
                i64::try_from(metadata.dev()).unwrap_or(i64::MAX),
                i64::try_from(metadata.len()).unwrap_or(i64::MAX),
            ])
        };
        FileStamps(vec![stamp(&self.certificate), stamp(&self.key)])
    }
}

/// A certificate that the server can use.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// When it expires, in seconds since the Unix epoch; `None` if that is unreadable.
    pub(super) expires_s: Option<i64>,
}

impl Certificate {
    /// Reads a certificate and its key, which must belong to each other.
    pub(super) fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let pem = read(&files.certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, pem::Error>>()
            .map_err(|_| CertificateError::NoCertificate(files.certificate.clone()))?;
        let Some(own) = chain.first() else {
            return Err(CertificateError::NoCertificate(files.certificate.clone()));
        };
        let expires_s = expiry(own);
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|_| CertificateError::NoKey(files.key.clone()))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch(files.clone())
            }
            error => CertificateError::Unusable(files.clone(), error),
        })?;
        Ok(Self {
            key: Arc::new(key),
            expires_s,
        })
    }

    /// Whether the certificate is for the server's `name`.
    pub(super) fn is_for(&self, name: &ServerName<'_>) -> bool {
        let own = self.key.end_entity_cert();
        let own = own.and_then(ParsedCertificate::try_from);
        own.is_ok_and(|own| verify_server_name(&own, name).is_ok())
    }

    /// Whether a client that accepts these signatures can use the key.
    pub(super) fn can_sign(&self, accepted: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(accepted).is_some()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let error = |error| CertificateError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(error)?;
    let count = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    if count.map_err(error)? as u64 > BYTES_MAX {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Returns when a certificate expires, in seconds since the Unix epoch.
fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
