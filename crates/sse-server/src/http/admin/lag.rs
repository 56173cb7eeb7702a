//! How far the streams of this node are behind.

use std::time::SystemTime;

use super::streams::lag_ms;
use crate::{epoch::milliseconds, http::state::AppState};

/// A stream that is this far behind is reported.
const SLOW_MS: u64 = 60_000;

/// How far the streams of this node are behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lag {
    /// Streams that are more than a minute behind.
    pub(super) slow_streams: usize,
    /// Of the slowest stream.
    pub(super) max_ms: u64,
}

/// Measures the lag. Without a stream behind the tail no stream is examined.
pub(super) async fn measure_lag(state: &AppState) -> Lag {
    if state.metrics.streams_behind_tail() == 0 {
        return Lag::default();
    }
    let now_ms = milliseconds(SystemTime::now());
    let live = state.streams.list().await;
    let lags = live.streams.iter().map(|stream| lag_ms(stream, now_ms));
    Lag {
        slow_streams: lags.clone().filter(|lag| *lag > SLOW_MS).count(),
        max_ms: lags.max().unwrap_or(0),
    }
}
