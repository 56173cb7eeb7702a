//! All certificates of the server: which one a client gets, and which is replaced.
//!
//! | the client requests | it gets |
//! |---|---|
//! | a name of a certificate | the first such pair whose key it can use, otherwise the first such pair |
//! | no name, or a foreign one | the first pair |
//!
//! A replaced certificate is used for new connections. Open ones do not need it any more.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    crypto::CryptoProvider,
    pki_types::ServerName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    certificate::{Certificate, CertificateError, CertificateFiles},
    validity::{ExpiryWarning, Validity},
};
use crate::metrics::Metrics;

/// The certificates of the server; clones share them.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    pairs: Vec<Pair>,
    provider: Arc<CryptoProvider>,
    metrics: Metrics,
}

struct Pair {
    files: CertificateFiles,
    current: ArcSwap<Certificate>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files();
        f.debug_list().entries(files).finish()
    }
}

impl Certificates {
    /// Loads the certificates from their files.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a key does not belong to its certificate.
    pub fn load(
        files: &[CertificateFiles],
        provider: Arc<CryptoProvider>,
        metrics: Metrics,
    ) -> Result<Self, CertificateError> {
        let pairs = files.iter().map(|files| {
            Ok(Pair {
                files: files.clone(),
                current: ArcSwap::from_pointee(Certificate::load(files, &provider)?),
            })
        });
        let certificates = Self(Arc::new(Inner {
            pairs: pairs.collect::<Result<_, _>>()?,
            provider,
            metrics,
        }));
        certificates.report_expiry();
        Ok(certificates)
    }

    /// Returns the files of all certificates.
    pub(super) fn files(&self) -> impl Iterator<Item = &CertificateFiles> {
        self.0.pairs.iter().map(|pair| &pair.files)
    }

    /// Returns what an operator should know about certificates that expire within 14 days.
    pub fn expiry_warnings(&self) -> impl Iterator<Item = ExpiryWarning<'_>> {
        self.expiries().filter_map(|(files, expires_s)| {
            ExpiryWarning::new(&files.certificate, Validity::now(expires_s))
        })
    }

    /// Returns the files of all certificates, and when each expires.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (&CertificateFiles, i64)> {
        let pairs = self.0.pairs.iter();
        pairs.filter_map(|pair| Some((&pair.files, pair.current.load().expires_s?)))
    }

    /// Reads the pair with the index `nth` again.
    ///
    /// # Errors
    ///
    /// The new pair cannot be used. The old one remains.
    pub(super) fn reload(&self, nth: usize) -> Result<(), CertificateError> {
        let Some(pair) = self.0.pairs.get(nth) else {
            return Ok(());
        };
        let certificate = Certificate::load(&pair.files, &self.0.provider)?;
        pair.current.store(Arc::new(certificate));
        self.report_expiry();
        Ok(())
    }

    /// Reads all pairs again, and replaces them if each can be used.
    ///
    /// # Errors
    ///
    /// A new pair cannot be used. All old ones remain.
    pub fn reload_all(&self) -> Result<(), CertificateError> {
        let pairs = self.0.pairs.iter();
        let read = pairs.map(|pair| Certificate::load(&pair.files, &self.0.provider));
        let read: Vec<_> = read.collect::<Result<_, _>>()?;
        for (pair, certificate) in self.0.pairs.iter().zip(read) {
            pair.current.store(Arc::new(certificate));
        }
        self.report_expiry();
        Ok(())
    }

    fn report_expiry(&self) {
        let first = self.expiries().map(|(_, expires_s)| expires_s).min();
        self.0.metrics.set_certificate_expiry(first.unwrap_or(0));
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let mut chosen: Option<Arc<Certificate>> = None;
        if let Some(name) = name {
            for pair in &self.0.pairs {
                let certificate = pair.current.load_full();
                if !certificate.is_for(&name) {
                    continue;
                }
                if certificate.can_sign(hello.signature_schemes()) {
                    return Some(certificate.key.clone());
                }
                chosen.get_or_insert(certificate);
            }
        }
        let chosen = chosen.or_else(|| Some(self.0.pairs.first()?.current.load_full()));
        Some(chosen?.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello)
    }
}

#[cfg(test)]
mod tests;
