//! Hints on what to do about failures on this side.

use super::{
    connection::{NO_FILES, NO_PORTS},
    engine::Finished,
};

/// The hints that apply to a run, most important first.
pub(crate) fn collect_hints(finished: &Finished) -> Vec<&'static str> {
    let stats = &finished.collector.stats;
    let failed = |kind: &str| stats.connects.failed.contains_key(kind);
    [
        (failed(NO_PORTS), "connections found no free local port or address: name addresses of this machine with --source (an address has about 28 000 ports), or use fewer --connections"),
        (failed(NO_FILES), "this process or this machine has no more open files: raise the limit (`ulimit -Hn`, fs.file-max), or use fewer --connections"),
        (failed("connection refused"), "connections were refused: check whether a server listens at this address, and how long its queue of connections is"),
        (failed("timed out"), "connects timed out: the server's queue of connections is full (use a longer --ramp), or a firewall drops packets"),
        (stats.from_the_future > 0, "events have a stamp later than their receipt: the clocks of the two machines differ, and latencies are wrong by that difference"),
    ]
    .into_iter()
    .filter_map(|(applies, hint)| applies.then_some(hint))
    .collect()
}
