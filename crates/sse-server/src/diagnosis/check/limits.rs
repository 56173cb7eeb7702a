//! Limits of the process and of the machine.

use std::fs;

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use super::report::Report;
use crate::config::Config;

const AREA: &str = "limits";
/// Fewer files suffice for a trial, and hardly for a service.
const FILES_MIN: u64 = 4096;
/// Connections that wait to be accepted, as the server requests them per socket.
const BACKLOG: u64 = 4096;
/// What a server needs besides the budgets that have settings: code, threads, the cache of the log,
/// connections, pages of history.
const OTHER_MEMORY: u64 = 192 << 20;

pub(super) fn check(config: &Config, report: &mut Report) {
    check_files(config, report);
    check_backlog(report);
    if let Some(memory) = memory_limit() {
        check_memory(config, memory, report);
    }
}

fn check_files(config: &Config, report: &mut Report) {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let streams = config.streams_max.map_or(0, |streams| streams.get() as u64);
    if files < streams.saturating_add(256) {
        report.warn(
            AREA,
            format_args!(
                "{files} files may be open, too few for --streams-max {streams}: raise LimitNOFILE"
            ),
        );
    } else if files < FILES_MIN {
        report.warn(
            AREA,
            format_args!(
                "{files} files may be open, and each stream is one: raise LimitNOFILE or ulimit -Hn"
            ),
        );
    } else {
        report.ok(AREA, format_args!("{files} files may be open"));
    }
}

fn check_backlog(report: &mut Report) {
    let file = fs::read_to_string("/proc/sys/net/core/somaxconn");
    let limit = file.ok().and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(limit) = limit.filter(|limit| *limit < BACKLOG) {
        report.warn(
            AREA,
            format_args!(
                "only {limit} connections can wait to be accepted, and clients that reconnect at once \
                 are delayed: run sysctl net.core.somaxconn={BACKLOG}"
            ),
        );
    }
}

/// Returns the memory that the process may use, in bytes; `None` if it is unknown.
fn memory_limit() -> Option<u64> {
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| parse_total(&text));
    [group, machine].into_iter().flatten().min()
}

/// Returns the bytes in the line `MemTotal` of `/proc/meminfo`.
fn parse_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

fn check_memory(config: &Config, memory: u64, report: &mut Report) {
    let budgets = [
        config.tails_bytes_max as u64,
        config.blocked_bytes_max as u64,
        config.publish_memory_bytes,
        OTHER_MEMORY,
    ];
    let needed = budgets.into_iter().fold(0, u64::saturating_add);
    let (needed_text, memory_text) = (ByteSize(needed), ByteSize(memory));
    if needed > memory {
        report.warn(
            AREA,
            format_args!(
                "the budgets may take {needed_text}, and {memory_text} of memory are there: lower \
                 --tails-bytes, --blocked-bytes or --publish-memory"
            ),
        );
    } else {
        report.ok(
            AREA,
            format_args!("the budgets may take {needed_text} of {memory_text} of memory"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_parsed() {
        let text = "MemTotal:       24610616 kB\nMemFree:        10 kB\n";
        assert_eq!(parse_total(text), Some(24_610_616 << 10));
        assert_eq!(parse_total("MemFree: 1 kB"), None);
    }
}
