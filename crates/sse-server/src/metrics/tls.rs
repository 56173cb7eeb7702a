//! Metrics of TLS.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::family::Family,
    registry::{Registry, Unit},
};

use super::{Count, Level, Metrics};

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeResult {
    /// A new session began.
    Full,
    /// An earlier session was resumed.
    Resumed,
    /// The client does not speak TLS, or has nothing in common with the server.
    Failed,
    /// It took too long, or its turn did not come.
    TimedOut,
}

impl HandshakeResult {
    const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::Failed, Self::TimedOut];

    /// Value of the label `result`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct TlsMetrics {
    handshakes: Family<ResultLabel, Count>,
    certificate_expiry: Level,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl TlsMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("tls_handshakes", "TLS handshakes", self.handshakes.clone());
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the first certificate expires, since the Unix epoch; 0 without TLS",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        for result in HandshakeResult::ALL {
            drop(self.handshakes(result));
        }
    }

    pub(super) fn record_handshake(&self, result: HandshakeResult) {
        self.handshakes(result).inc();
    }

    pub(super) fn set_expiry(&self, expires_s: i64) {
        self.certificate_expiry.set(expires_s);
    }

    fn handshakes(&self, result: HandshakeResult) -> Count {
        let result = result.as_str();
        self.handshakes.get_or_create_owned(&ResultLabel { result })
    }
}

impl Metrics {
    /// Counts a TLS handshake.
    pub fn handshake_ended(&self, result: HandshakeResult) {
        self.0.tls.record_handshake(result);
    }

    /// Sets when the first certificate expires, in seconds since the Unix epoch.
    pub fn set_certificate_expiry(&self, expires_s: i64) {
        self.0.tls.set_expiry(expires_s);
    }
}
