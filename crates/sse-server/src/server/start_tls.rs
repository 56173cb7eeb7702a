//! Loads the certificates, and keeps them up to date.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::{ServerConfig, crypto::ring};
use tokio_util::sync::CancellationToken;

use super::{handshake_threads::HandshakeThreads, transport::offered_protocols};
use crate::{
    config::Config,
    metrics::Metrics,
    supervised::supervised_task,
    tls::{Certificates, refresh_certificates, server_settings},
};

/// How TLS is set up, and the certificates in use.
pub(super) struct Tls {
    pub(super) settings: Arc<ServerConfig>,
    pub(super) certificates: Certificates,
    pub(super) handshake_threads: HandshakeThreads,
}

/// Returns how TLS is set up; `None` if there are no certificates.
///
/// # Errors
///
/// A certificate cannot be used, or no thread can be started.
pub(super) fn start(
    config: &Config,
    metrics: &Metrics,
    stopping: &CancellationToken,
) -> anyhow::Result<Option<Tls>> {
    if config.certificates.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::load(&config.certificates, provider.clone(), metrics.clone())
        .context("cannot use a certificate")?;
    let settings = server_settings(
        certificates.clone(),
        provider,
        offered_protocols(config.http2),
    )
    .context("cannot set up TLS")?;
    tokio::spawn(supervised_task(
        "the refresh of certificates",
        refresh_certificates(certificates.clone(), stopping.clone()),
    ));
    let handshake_threads =
        HandshakeThreads::start().context("cannot start the threads for TLS handshakes")?;
    Ok(Some(Tls {
        settings,
        certificates,
        handshake_threads,
    }))
}
