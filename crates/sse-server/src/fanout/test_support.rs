//! Parts that the unit tests of several files need.

use std::{num::NonZeroUsize, time::Duration};

use tokio::runtime::Handle;

use crate::{
    broker::{Broker, Retention, idempotency::KeyLimits, memory::Memory},
    metrics::Metrics,
};

/// Creates a broker in memory that keeps everything.
pub(super) fn memory_broker() -> Broker {
    let retention = Retention {
        events_max: NonZeroUsize::MAX,
        age_max: Duration::MAX,
        bytes_max: u64::MAX,
        channels_max: 100,
        keys: KeyLimits {
            window: Duration::MAX,
            keys_max: 0,
            bytes_max: u64::MAX,
        },
    };
    Broker::Memory(Memory::new(retention, Metrics::new(), &Handle::current()))
}
