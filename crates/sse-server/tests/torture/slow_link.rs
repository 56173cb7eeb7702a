//! A slow link: limits how many bytes per second a proxy sends to its client.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{net::TcpSocket, time::sleep};

/// Bytes per read without a limit.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Bytes per read with a limit.
const SLOW_READ_BYTES: usize = 1024;
/// The kernel's receive buffer for a slow link, so that data waits in the node and not here.
const SLOW_BUFFER_BYTES: u32 = 4096;

/// The rate of a link; without a limit at first.
#[derive(Debug, Default)]
pub(crate) struct SlowLink {
    /// Bytes per second; 0 for no limit.
    rate: AtomicU64,
}

impl SlowLink {
    /// Limits the link to this many bytes per second; 0 removes the limit.
    pub(crate) fn limit(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Relaxed);
    }

    /// Gives a new socket to the node a small receive buffer, if the link is slow.
    pub(crate) fn configure(&self, socket: &TcpSocket) -> std::io::Result<()> {
        if self.rate.load(Relaxed) > 0 {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        }
        Ok(())
    }

    /// Returns the number of bytes that the next read may return.
    pub(crate) fn read_bytes(&self) -> usize {
        if self.rate.load(Relaxed) > 0 {
            SLOW_READ_BYTES
        } else {
            READ_BYTES
        }
    }

    /// Waits for as long as sending `count` bytes takes at the current rate.
    pub(crate) async fn delay(&self, count: usize) {
        let rate = self.rate.load(Relaxed);
        if let Some(micros) = (1_000_000 * count as u64).checked_div(rate) {
            sleep(Duration::from_micros(micros)).await;
        }
    }
}
