//! How much the log holds, for the metrics of every node.
//!
//! Up to [`SAMPLE`] channels the figures are exact. Beyond that they are estimated from a random sample,
//! so the work does not grow with the number of channels.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use redis::{Cmd, Value};
use sse_proto::Channel;

use super::{SLOTS_BATCH, visit::parse_channels};
use crate::{
    broker::{
        BrokerError,
        redis::{
            slots::{SLOTS, Slot},
            streams::Streams,
        },
    },
    metrics::{LogSize, Metrics},
};

/// Channels that are measured at most.
const SAMPLE: usize = 1000;
/// Channels in one pipeline.
const BATCH: usize = 64;
/// Shortest pause between two measurements of many channels.
const INTERVAL_MIN: Duration = Duration::from_secs(30);

/// Measures the log from time to time.
#[derive(Debug)]
pub(super) struct SizeMeter {
    metrics: Metrics,
    next: Instant,
}

impl SizeMeter {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            next: Instant::now(),
        }
    }

    /// Measures the log, unless it has many channels and was measured a moment ago.
    pub(super) async fn measure(&mut self, streams: &Streams) -> Result<(), BrokerError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        let registered = streams.count_channels().await?;
        let channels = sample(streams, registered).await?;
        if channels.len() > BATCH || streams.shards.is_cluster() {
            self.next = now + INTERVAL_MIN;
        }
        let mut sums = [0; 3];
        for batch in channels.chunks(BATCH) {
            let commands = batch.iter().flat_map(|channel| {
                let slot = Slot::of(channel);
                commands(streams, channel).map(|command| (slot, command))
            });
            let replies = streams.query_slots(commands).await?;
            for (reply, nth) in replies.iter().zip((0..sums.len()).cycle()) {
                sums[nth] += number(reply);
            }
        }
        self.metrics
            .set_log_size(scale(sums, registered, channels.len()));
        Ok(())
    }
}

/// All channels, or some of them by chance.
async fn sample(streams: &Streams, registered: usize) -> Result<Vec<Channel>, BrokerError> {
    if streams.shards.is_cluster() {
        return sample_slots(streams).await;
    }
    let slot = Slot::new(0);
    let index = streams.names.index(slot);
    let command = if registered <= SAMPLE {
        Cmd::zrange(index, 0, -1)
    } else {
        let mut command = redis::cmd("ZRANDMEMBER");
        command.arg(index).arg(SAMPLE);
        command
    };
    Ok(parse_channels(
        streams.query_slots([(slot, command)]).await?,
    ))
}

/// All channels of a Redis Cluster, or those of some slots. Names are spread over slots by chance.
async fn sample_slots(streams: &Streams) -> Result<Vec<Channel>, BrokerError> {
    let first = rand::rng().random_range(0..SLOTS);
    let slots: Vec<Slot> = (0..SLOTS)
        .map(|nth| Slot::new((first + nth) % SLOTS))
        .collect();
    let mut channels = Vec::new();
    for slots in slots.chunks(SLOTS_BATCH) {
        let registries = slots.iter().map(|slot| {
            let registry = streams.names.channels(*slot);
            (*slot, Cmd::zrange(registry, 0, -1))
        });
        channels.extend(parse_channels(streams.query_slots(registries).await?));
        if channels.len() >= SAMPLE {
            break;
        }
    }
    Ok(channels)
}

/// The questions about one channel: events, bytes, keys.
fn commands(streams: &Streams, channel: &Channel) -> [Cmd; 3] {
    let stream = streams.names.stream(channel);
    let mut usage = redis::cmd("MEMORY");
    usage.arg("USAGE").arg(&stream);
    let keys = Cmd::hlen(streams.names.keys(channel));
    [Cmd::xlen(&stream), usage, keys]
}

/// An error counts as zero: the key may not be a stream, or this user may not run `MEMORY USAGE`.
fn number(reply: &Value) -> u64 {
    match reply {
        Value::Int(number) => u64::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}

/// The size of `registered` channels, of which `measured` have these sums.
fn scale(sums: [u64; 3], registered: usize, measured: usize) -> LogSize {
    let [events, bytes, keys] = sums.map(|sum| {
        let all = u128::from(sum) * registered as u128 / measured.max(1) as u128;
        u64::try_from(all).unwrap_or(u64::MAX)
    });
    LogSize {
        channels: registered,
        events,
        bytes,
        keys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_all_channels() {
        let size = scale([10, 1000, 3], 5000, 1000);
        let figures = (size.channels, size.events, size.bytes, size.keys);
        assert_eq!(figures, (5000, 50, 5000, 15));
        let exact = scale([10, 1000, 3], 7, 7);
        assert_eq!((exact.events, exact.bytes, exact.keys), (10, 1000, 3));
        assert_eq!(scale([0; 3], 0, 0).events, 0);
    }
}
