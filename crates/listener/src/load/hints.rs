//! Hints on what to do about failures on this side.

use super::{
    connection::{NO_FILES, NO_HTTP_2, NO_PORTS, NOT_TLS, UNTRUSTED},
    engine::Finished,
};

const PORTS: &str = "connections found no free local port or address: name addresses of this machine \
     with --source (an address has about 28 000 ports), or use fewer --connections";
const FILES: &str = "this process or this machine has no more open files: raise the limit \
     (`ulimit -Hn`, fs.file-max), or use fewer --connections";
const REFUSED: &str = "connections were refused: check whether a server listens at this address, and \
     how long its queue of connections is";
const TIMED_OUT: &str = "connects timed out: the server's queue of connections is full (use a longer \
     --ramp), or a firewall drops packets";
const CLOCKS: &str = "events have a stamp later than their receipt: the clocks of the two machines \
     differ, and latencies are wrong by that difference";
const CERTIFICATE: &str = "the server's certificate is not trusted: give it, or that of its authority, by \
     --cacert, or skip the check by --insecure";
const PLAIN_PORT: &str = "the server does not speak TLS at this port: write http:// instead of https://, or \
     give the port for https";
const ONLY_HTTP_1: &str =
    "the server offers no HTTP/2: omit --http2-streams, or switch it on in the server";

/// The hints that apply to a run, most important first.
pub(crate) fn collect_hints(finished: &Finished) -> Vec<&'static str> {
    let stats = &finished.collector.stats;
    let failed = |kind: &str| stats.connects.failed.contains_key(kind);
    [
        (failed(NO_PORTS), PORTS),
        (failed(NO_FILES), FILES),
        (failed("connection refused"), REFUSED),
        (failed("timed out"), TIMED_OUT),
        (failed(UNTRUSTED), CERTIFICATE),
        (failed(NOT_TLS), PLAIN_PORT),
        (failed(NO_HTTP_2), ONLY_HTTP_1),
        (stats.from_the_future > 0, CLOCKS),
    ]
    .into_iter()
    .filter_map(|(applies, hint)| applies.then_some(hint))
    .collect()
}
