//! The nodes that share a broker: what each of them reports about itself.
//!
//! The broker does not know what a report means; `http/admin/nodes` writes and reads them. An
//! in-process log has one node, which reports nothing.

use super::{Broker, BrokerError};

/// What one node has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// The node.
    pub node: String,
    /// Its report. Other programs can write there, so the text is not trusted.
    pub text: String,
    /// How old the report is, in milliseconds by the broker's clock.
    pub age_ms: u64,
}

impl Broker {
    /// Stores the report of a node in place of its last one. It is kept for some seconds.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`OutcomeUnknown`](BrokerError::OutcomeUnknown).
    pub async fn report_node(&self, node: &str, text: &str) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => Ok(()),
            Self::Redis(broker) => broker.report_node(node, text).await,
        }
    }

    /// Returns the reports of the last seconds, in no order.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BrokerError::Unavailable), [`OutcomeUnknown`](BrokerError::OutcomeUnknown).
    pub async fn node_reports(&self) -> Result<Vec<StoredReport>, BrokerError> {
        match self {
            Self::Embedded(_) | Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(broker) => broker.node_reports().await,
        }
    }

    /// Whether several nodes can share the broker.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }
}
