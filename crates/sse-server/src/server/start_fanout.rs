//! Starts the fan-out threads, and the thread that finds clients which vanished.

use std::num::NonZeroUsize;
#[cfg(target_os = "linux")]
use std::time::Duration;

use tokio::runtime::Handle;

use super::cores;
#[cfg(target_os = "linux")]
use crate::{
    ListenAddress,
    fanout::{
        reachability::{SweepTargets, Sweeper},
        streams::Streams,
    },
};
use crate::{
    channel::Hub,
    config::Config,
    fanout::{
        blocked::BlockedBytes,
        drain::Drain,
        page_cache::PageCache,
        thread::{Fanout, FanoutContext},
    },
    metrics::Metrics,
};

/// Starts to close the streams of clients that vanished from the network.
#[cfg(target_os = "linux")]
pub(super) fn start_sweeper(
    addresses: &[ListenAddress],
    write_timeout: Duration,
    streams: &Streams,
) -> std::io::Result<Sweeper> {
    let listeners = addresses.iter().filter_map(ListenAddress::tcp).collect();
    let targets = SweepTargets {
        fanout: streams.fanout.clone(),
        attached: streams.attached_sockets.clone(),
    };
    Sweeper::start(listeners, write_timeout, targets)
}

/// Starts the fan-out threads; returns `None` if the settings want none.
pub(super) fn start_fanout(
    config: &Config,
    hub: &Hub,
    pages: &PageCache,
    blocked: &BlockedBytes,
    drain: &Drain,
    metrics: &Metrics,
) -> std::io::Result<Option<Fanout>> {
    let threads = config
        .fanout_threads
        .unwrap_or_else(|| (cores() / 2).max(1));
    NonZeroUsize::new(threads)
        .map(|threads| {
            let context = FanoutContext {
                settings: config.fanout,
                hub: hub.clone(),
                pages: pages.clone(),
                blocked: blocked.clone(),
                drain: drain.clone(),
                metrics: metrics.clone(),
                runtime: Handle::current(),
            };
            Fanout::start(threads, &context)
        })
        .transpose()
}
