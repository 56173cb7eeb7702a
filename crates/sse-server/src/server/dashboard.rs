//! What the dashboard knows of the settings.

use crate::{
    ListenAddress,
    config::Config,
    http::{BudgetLimits, Dashboard, NodeAddress},
};

/// Returns what the dashboards of a server share that may have `connections_max` connections and
/// listens at `addresses`.
pub(super) fn dashboard(
    config: &Config,
    connections_max: usize,
    addresses: &[ListenAddress],
) -> Dashboard {
    let limits = BudgetLimits {
        connections: connections_max,
        publish_memory: config.publish_memory_bytes,
        blocked: config.blocked_bytes_max,
        tails: config.tails_bytes_max,
        log: config.retention.bytes_max,
        channels: config.retention.channels_max as u64,
    };
    let addresses = addresses.iter().map(ListenAddress::url);
    let address = NodeAddress::of_this_process(addresses.collect());
    Dashboard::new(limits, config.printed.clone(), address)
}
