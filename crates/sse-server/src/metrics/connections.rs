//! Metrics of connections.

use prometheus_client::{encoding::EncodeLabelSet, metrics::family::Family, registry::Registry};

use super::{Count, Level};

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct ConnectionMetrics {
    open: Family<StateLabel, Level>,
    closed: Family<ReasonLabel, Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl ConnectionMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Open connections, by what they are used for",
            self.open.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that the server closed, by reason",
            self.closed.clone(),
        );
    }

    pub(super) fn set_open(&self, state: &'static str, connections: usize) {
        let level = self.open.get_or_create_owned(&StateLabel { state });
        level.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    pub(super) fn closed(&self, reason: &'static str) -> Count {
        self.closed.get_or_create_owned(&ReasonLabel { reason })
    }
}
