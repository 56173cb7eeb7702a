//! The forms of single values. The message of each error states what to write instead.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    num::NonZeroUsize,
    time::Duration,
};

use sse_cli::number::{parse_number, parse_positive_number};
use sse_proto::units::parse_duration;

/// More fan-out threads than any machine has use for.
const THREADS_MAX: usize = 256;
const COALESCE_MAX: Duration = Duration::from_millis(100);

pub(super) fn parse_threads(text: &str) -> Result<usize, String> {
    parse_number(text, &(0..=THREADS_MAX))
}

pub(super) fn parse_positive(text: &str) -> Result<NonZeroUsize, &'static str> {
    parse_positive_number(text)
}

pub(super) fn parse_history_events(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| {
        "write a whole number from 1 on: the newest event of a channel always stays, so that \
         subscribers can resume after it; --memory keeps nothing on disk"
    })
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
