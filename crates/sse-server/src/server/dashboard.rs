//! What the dashboard knows of the settings.

use crate::{
    config::Config,
    http::{BudgetLimits, Dashboard},
};

/// Returns what the dashboards of a server share that may have `connections_max` connections.
pub(super) fn dashboard(config: &Config, connections_max: usize) -> Dashboard {
    let limits = BudgetLimits {
        connections: connections_max,
        publish_memory: config.publish_memory_bytes,
        blocked: config.blocked_bytes_max,
        tails: config.tails_bytes_max,
        log: config.retention.bytes_max,
        channels: config.retention.channels_max as u64,
    };
    Dashboard::new(limits, config.printed.clone())
}
