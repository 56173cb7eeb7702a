//! How rustls is set up.

use std::sync::Arc;

use rustls::{
    Error, ServerConfig,
    crypto::{CryptoProvider, ring::Ticketer},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};

use super::certificates::Certificates;

/// Returns the settings of all connections, to whose clients the protocols `alpn` are offered.
///
/// Sessions are resumed by tickets, for which the server keeps nothing but a key. Data that arrives
/// with a resumption (0-RTT) is never accepted, because anyone can send a copy of it: a `GET
/// /event/x` would be published twice.
///
/// # Errors
///
/// The system has no random numbers.
pub(crate) fn server_settings(
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    settings.ticketer = Ticketer::new()?;
    settings.max_early_data_size = 0;
    settings.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(settings))
}
