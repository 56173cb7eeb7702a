//! What to do about what went wrong on this side.

use super::{
    connection::{NO_FILES, NO_PORTS},
    engine::Finished,
};

/// Sentences for the report, most important first.
pub(crate) fn collect_hints(finished: &Finished) -> Vec<&'static str> {
    let stats = &finished.collector.stats;
    let failed = |kind: &str| stats.connects.failed.contains_key(kind);
    [
        (failed(NO_PORTS), "connections found no free local port or address: give addresses of this machine by --source (an address has some 28 000 ports), or take fewer --connections"),
        (failed(NO_FILES), "this process or this machine has no more open files: raise the limit (`ulimit -Hn`, fs.file-max), or take fewer --connections"),
        (failed("connection refused"), "connections were refused: look whether a server listens at this address, and how long its queue of connections is"),
        (failed("timed out"), "connects timed out: the server's queue of connections is full (take a longer --ramp), or a firewall drops them"),
        (stats.from_the_future > 0, "events said that they were sent later than they came: the clocks of the two machines differ, and latencies are off by as much"),
    ]
    .into_iter()
    .filter_map(|(applies, hint)| applies.then_some(hint))
    .collect()
}
