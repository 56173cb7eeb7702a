//! Logs clients that do not speak HTTP: port scans, and TLS handshakes on a port without TLS.
//!
//! actix-http reports each of them as an error without the address of the client, so `main` turns
//! its log off, and this module logs the results of connections.

use std::{
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
            DispatchError::Parse(reason) => self.warn(client, reason),
            DispatchError::Body(_) | DispatchError::InternalError | DispatchError::Upgrade => {
                tracing::error!(?client, %error, "a connection failed");
            }
            // A client that is slow, or gone.
            _ => tracing::debug!(?client, %error, "a connection ended early"),
        }
    }

    fn warn(&self, client: Option<SocketAddr>, reason: &impl std::fmt::Display) {
        let mut throttle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(suppressed) = throttle.record(Instant::now()) else {
            return;
        };
        let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
        tracing::warn!(
            client, %reason, suppressed,
            "a client does not speak HTTP: a port scan, or https:// instead of http:// (logged at \
             most once per minute)"
        );
    }
}
