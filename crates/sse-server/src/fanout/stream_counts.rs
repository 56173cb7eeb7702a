//! The number of open streams per channel.
//!
//! A count visits every stream of the server, on the threads that serve them. Any subscriber may ask
//! for the number of one channel, so it is at most a second old, and requests share a count.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sse_proto::Channel;
use tokio::sync::Mutex;

use super::streams::Streams;

/// Age of a count that is used again.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The open streams of this node per channel; channels without streams are absent.
pub type CountPerChannel = Arc<HashMap<Channel, usize>>;

/// The last count; clones share it.
#[derive(Debug, Clone, Default)]
pub struct StreamCounts(Arc<Mutex<Option<(Instant, CountPerChannel)>>>);

impl StreamCounts {
    /// Returns a count of `streams` that is at most a second old.
    pub(super) async fn of(&self, streams: &Streams, now: Instant) -> CountPerChannel {
        let mut last = self.0.lock().await;
        if let Some((at, counts)) = &*last
            && now.saturating_duration_since(*at) < AGE_MAX
        {
            return counts.clone();
        }
        let mut counts = HashMap::new();
        for stream in streams.list().await.streams {
            for channel in stream.channels {
                *counts.entry(channel).or_default() += 1;
            }
        }
        let counts = Arc::new(counts);
        *last = Some((now, counts.clone()));
        counts
    }
}
