//! The forms of single values. The message of each error states what to write instead.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    time::Duration,
};

use sse_proto::units::parse_duration;

use crate::access_log::AccessLogTarget;

/// More fan-out threads than any machine has use for.
const THREADS_MAX: usize = 256;
const COALESCE_MAX: Duration = Duration::from_millis(100);

pub(super) fn parse_threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|threads| *threads <= THREADS_MAX)
        .ok_or_else(|| format!("write a number from 0 to {THREADS_MAX}"))
}

pub(super) fn parse_coalesce(text: &str) -> Result<Duration, String> {
    // "0" needs no unit.
    let duration = if text == "0" {
        Duration::ZERO
    } else {
        parse_duration(text)?
    };
    if duration > COALESCE_MAX {
        return Err("write a time from 0 to 100ms: events wait for it".to_owned());
    }
    Ok(duration)
}

/// Rejects the values of a switch, because a file with such a name is hardly ever meant.
pub(super) fn parse_access_log(text: &str) -> Result<AccessLogTarget, String> {
    match text {
        "-" => Ok(AccessLogTarget::Stdout),
        "" | "0" | "1" | "true" | "false" => Err(format!(
            "{text:?} is not a file: write a path such as /var/log/sse-server/access.log, or - for \
             stdout"
        )),
        path => Ok(AccessLogTarget::File(PathBuf::from(path))),
    }
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|_| {
        format!(
            "{text:?} is not an address and a port: write 127.0.0.1:5000, [::1]:5000 or \
             localhost:5000"
        )
    })?;
    addresses
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}
