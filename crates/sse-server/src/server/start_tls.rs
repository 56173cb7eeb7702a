//! Loads the certificates, and keeps them up to date.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::{ServerConfig, crypto::ring};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    supervised::supervised_task,
    tls::{CertificateFiles, Certificates, refresh_certificates, server_settings},
};

/// Returns how TLS is set up, with these `protocols` for HTTP; `None` if there are no certificates.
///
/// # Errors
///
/// A certificate cannot be used.
pub(super) fn start(
    files: &[CertificateFiles],
    protocols: &[&[u8]],
    metrics: &Metrics,
    stopping: &CancellationToken,
) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    if files.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::load(files, provider.clone(), metrics.clone())
        .context("cannot use a certificate")?;
    let settings =
        server_settings(certificates.clone(), provider, protocols).context("cannot set up TLS")?;
    tokio::spawn(supervised_task(
        "the refresh of certificates",
        refresh_certificates(certificates, stopping.clone()),
    ));
    Ok(Some(settings))
}
