//! Metrics of connections.

use prometheus_client::{encoding::EncodeLabelSet, metrics::family::Family, registry::Registry};

use super::{Count, Level, Metrics};

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct ConnectionMetrics {
    open: Family<StateLabel, Level>,
    closed: Family<ReasonLabel, Count>,
    /// Sum of `open`.
    all_open: Level,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    /// Creates the metrics of connections in these states, and closed for these reasons.
    pub fn create_connection_labels(
        &self,
        states: impl IntoIterator<Item = &'static str>,
        reasons: impl IntoIterator<Item = &'static str>,
    ) {
        for state in states {
            self.set_connections(state, 0);
        }
        for reason in reasons {
            drop(self.0.connections.closed(reason));
        }
    }

    /// Sets the number of open connections in `state`.
    pub fn set_connections(&self, state: &'static str, connections: usize) {
        self.0.connections.set_open(state, connections);
    }

    /// Counts a connection that the server closed.
    pub fn connection_closed(&self, reason: &'static str) {
        self.0.connections.closed(reason).inc();
    }
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
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        let before = level.set(connections);
        self.all_open.inc_by(connections.saturating_sub(before));
    }

    /// Returns how many connections are open.
    pub(super) fn open(&self) -> i64 {
        self.all_open.get()
    }

    pub(super) fn closed(&self, reason: &'static str) -> Count {
        self.closed.get_or_create_owned(&ReasonLabel { reason })
    }
}
