//! A limit for each reply of Redis.
//!
//! The client library keeps a reply in memory until it is complete, whatever its size. A reply that
//! never ends would take all memory. [`LimitedReplies`] counts replies with a [`ReplyMeter`] while
//! they arrive, and fails the connection once a reply is larger than the limit.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply_meter::{ReplyError, ReplyMeter};

/// Lowest limit of a reply.
const COST_MAX_MIN: u64 = 64 << 20;
/// Events of the largest size that fit in a reply. A read asks for eight and two more, unless the
/// previous read of the channel had small events only.
const LARGEST_EVENTS: u64 = 12;
/// Cost of an event in addition to its data.
const EVENT_OVERHEAD: u64 = 4096;
/// Shortest time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Returns the limit of a reply: 64 MiB, unless the settings allow larger events than fit in that.
///
/// A page of history has at most 1 MiB or ten events. It can be larger only if the events of a
/// channel suddenly become much larger than all events of the page before. Then the connections are
/// replaced, and the read is repeated with ten events.
pub(super) fn reply_cost_max(event_bytes_max: usize) -> u64 {
    let page = (event_bytes_max as u64)
        .saturating_add(EVENT_OVERHEAD)
        .saturating_mul(LARGEST_EVENTS);
    COST_MAX_MIN.max(page)
}

/// Logs why connections were given up.
#[derive(Debug)]
pub(super) struct ReplyErrorLog {
    /// Address of the Redis.
    address: String,
    throttle: Mutex<LogThrottle>,
}

impl ReplyErrorLog {
    pub(super) const fn new(address: String) -> Self {
        Self {
            address,
            throttle: Mutex::new(LogThrottle::every(LOG_INTERVAL)),
        }
    }

    fn record(&self, error: ReplyError) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = throttle.record(Instant::now()) {
            tracing::warn!(
                address = self.address, %error, suppressed,
                "a reply of Redis cannot be accepted; the connection is replaced"
            );
        }
    }
}

/// A connection whose replies are limited.
#[derive(Debug)]
pub(super) struct LimitedReplies<S> {
    stream: S,
    meter: ReplyMeter,
    errors: Arc<ReplyErrorLog>,
}

impl<S> LimitedReplies<S> {
    /// Limits each reply that `stream` receives to `cost_max`.
    pub(super) const fn new(stream: S, cost_max: u64, errors: Arc<ReplyErrorLog>) -> Self {
        Self {
            stream,
            meter: ReplyMeter::new(cost_max),
            errors,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedReplies<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            meter,
            errors,
        } = self.get_mut();
        let filled = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        let received = buffer.filled().get(filled..).unwrap_or_default();
        Poll::Ready(meter.count(received).map_err(|error| {
            errors.record(error);
            io::Error::new(io::ErrorKind::InvalidData, error)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedReplies<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_reader_of_an_endless_reply_gets_an_error() {
        let endless = tokio::io::repeat(b'+');
        let errors = Arc::new(ReplyErrorLog::new("localhost".to_owned()));
        let mut limited = LimitedReplies::new(endless, 1 << 20, errors);
        let mut buffer = vec![0; 4096];
        let mut read = 0;
        let error = loop {
            match limited.read(&mut buffer).await {
                Ok(bytes) => read += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read <= 64 << 10, "{read}");
    }
}
