//! Logs clients that do not speak the protocol of an address: port scans, TLS handshakes on a port
//! without TLS, and HTTP on a port with TLS.
//!
//! actix-http reports each of them as an error without the address of the client, so `main` turns
//! its log off, and this module logs the results of connections.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_http::error::DispatchError;

use sse_cli::log_throttle::LogThrottle;

/// Anyone can connect to the server, so the lines are limited.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Logs failed connections; clones share the limit.
#[derive(Debug, Clone)]
pub(super) struct ProtocolErrorLog(Arc<Mutex<LogThrottle>>);

impl Default for ProtocolErrorLog {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LogThrottle::every(LOG_INTERVAL))))
    }
}

impl ProtocolErrorLog {
    /// Logs why the connection of `client` failed, if that is of interest to the operator.
    pub(super) fn record(&self, client: Option<SocketAddr>, error: &DispatchError) {
        match error {
            DispatchError::Parse(reason) => self.warn(
                client,
                reason,
                "a client does not speak HTTP: a port scan, or https:// instead of http://",
            ),
            DispatchError::Body(_) | DispatchError::InternalError | DispatchError::Upgrade => {
                tracing::error!(?client, %error, "a connection failed");
            }
            // A client that is slow, or gone.
            _ => tracing::debug!(?client, %error, "a connection ended early"),
        }
    }

    /// Logs that a client does not speak TLS on an address with TLS.
    pub(super) fn warn_about_tls(&self, client: Option<SocketAddr>, reason: &impl fmt::Display) {
        self.warn(client, reason, "a client was rejected on an https address");
    }

    /// Logs that a connection does not begin with the header that its address requires.
    pub(super) fn warn_about_proxy_header(
        &self,
        client: Option<SocketAddr>,
        reason: &impl fmt::Display,
    ) {
        let message = "a connection was closed on an address with ?proxy=v2, which only a proxy that \
                       sends PROXY headers can use";
        self.warn(client, reason, message);
    }

    fn warn(&self, client: Option<SocketAddr>, reason: &impl fmt::Display, message: &str) {
        let mut throttle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(suppressed) = throttle.record(Instant::now()) else {
            return;
        };
        let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
        tracing::warn!(
            client, %reason, suppressed,
            "{message} (logged at most once per minute)"
        );
    }
}
