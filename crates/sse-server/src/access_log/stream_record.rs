//! What an open stream keeps for its last line.

use std::{
    fmt::Display,
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use super::{
    AccessLog,
    line::{Line, LineKind, Protocol, cut},
};

/// The stream of one client, from the beginning of its response to its end.
///
/// With what else the guard of such a stream has, a record takes 144 bytes, and its path up to 4
/// KiB more. Only one thread at a time sends a stream, so its counter is never contended.
#[derive(Debug)]
pub struct StreamRecord {
    log: AccessLog,
    started: Instant,
    address: Option<IpAddr>,
    protocol: Protocol,
    target: Box<str>,
    bytes: AtomicU64,
    last_id: OnceLock<Box<str>>,
}

impl StreamRecord {
    /// Starts the record of a stream that `GET target` opens now.
    #[must_use]
    pub fn new(log: AccessLog, address: Option<IpAddr>, target: &str, protocol: Protocol) -> Self {
        Self {
            log,
            started: Instant::now(),
            address,
            protocol,
            target: cut(target).into(),
            bytes: AtomicU64::new(0),
            last_id: OnceLock::new(),
        }
    }

    /// Counts bytes that were handed to the connection.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes back bytes that the connection did not accept before it was closed.
    pub fn subtract_bytes(&self, bytes: usize) {
        let handed_over = self.bytes.load(Ordering::Relaxed);
        let accepted = handed_over.saturating_sub(bytes as u64);
        self.bytes.store(accepted, Ordering::Relaxed);
    }

    /// Sets the last id that the client was sent. Only the first call has an effect.
    pub fn set_last_id(&self, last_id: impl Display) {
        self.last_id.get_or_init(|| last_id.to_string().into());
    }

    /// Records the last line of the stream.
    pub fn record_end(&self, reason: Option<&'static str>) {
        self.log.record(Line {
            kind: LineKind::StreamEnd,
            time: SystemTime::now(),
            address: self.address,
            method: "GET",
            target: &self.target,
            protocol: self.protocol,
            status: 200,
            bytes: self.bytes.load(Ordering::Relaxed),
            duration: self.started.elapsed(),
            last_id: self.last_id.get().map(|id| &**id),
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        let bytes = size_of::<StreamRecord>();
        assert!(bytes <= 104, "{bytes} bytes");
    }
}
