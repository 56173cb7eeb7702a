//! The limits of a request, and how an error describes each of them.

use sse_proto::wire;

use super::error::{ApiError, ApiResult};

/// What a request may contain.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Bytes of the data of one event, as published and as encoded for streams.
    pub event_bytes_max: usize,
    /// Bytes of the body of a batch.
    pub batch_bytes_max: usize,
    /// Events per batch.
    pub batch_events_max: usize,
    /// Idempotency keys of one client per channel; a batch with more would never fit.
    pub keys_max: usize,
}

impl RequestLimits {
    /// The limit of the body or the data of one event.
    pub(super) const fn event_bytes(&self) -> Limit {
        Limit {
            what: "the event",
            max: self.event_bytes_max,
            unit: "bytes",
            flag: "--event-bytes-max",
        }
    }

    /// Rejects data that are too large, as published or as encoded for streams. `what` names the
    /// data.
    ///
    /// Each line of the data is a `data: ` line on streams, so 1 MiB of line ends takes 7 MiB there.
    /// The limit counts what [`wire::encoded_len`] counts: data of one line have their own length.
    pub(super) fn check_data(&self, data: &str, what: impl Fn() -> String) -> ApiResult<()> {
        let limit = self.event_bytes();
        limit.check_part(data.len(), &what)?;
        limit.check_part(wire::encoded_len(data), || {
            let overhead = wire::LINE_OVERHEAD;
            format!("{}, encoded with {overhead} bytes per line end,", what())
        })
    }

    /// The limit of the body of a batch.
    pub(super) const fn batch_bytes(&self) -> Limit {
        Limit {
            what: "the batch",
            max: self.batch_bytes_max,
            unit: "bytes",
            flag: "--batch-bytes-max",
        }
    }

    /// The limit of the number of events in a batch.
    pub(super) const fn batch_events(&self) -> Limit {
        Limit {
            what: "the batch",
            max: self.batch_events_max,
            unit: "events",
            flag: "--batch-events-max",
        }
    }

    /// The limit of the number of keys in a batch.
    pub(super) const fn batch_keys(&self) -> Limit {
        Limit {
            what: "the batch",
            max: self.keys_max,
            unit: "keys",
            flag: "--idempotency-keys",
        }
    }
}

/// One limit of a request, and how an error describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// `the event`, `the batch` or `the body`.
    what: &'static str,
    pub(super) max: usize,
    /// `bytes`, `events` or `keys`.
    unit: &'static str,
    /// The flag that sets the limit.
    flag: &'static str,
}

impl Limit {
    /// The limit of the bodies that are a small JSON object.
    pub(super) const JSON_BODY: Self = Self {
        what: "the body",
        max: 64 << 10,
        unit: "bytes",
        flag: "fixed",
    };

    /// Rejects a request that has more than the limit.
    pub(super) fn check(self, amount: usize) -> ApiResult<()> {
        self.check_part(amount, || self.what.to_owned())
    }

    /// Rejects a part of a request that has more than the limit. `what` names the part.
    pub(super) fn check_part(self, amount: usize, what: impl FnOnce() -> String) -> ApiResult<()> {
        if amount <= self.max {
            Ok(())
        } else {
            Err(self.exceeded_by(what()))
        }
    }

    fn exceeded_by(self, what: String) -> ApiError {
        ApiError::TooLarge {
            what,
            max: self.max,
            unit: self.unit,
            flag: self.flag,
        }
    }
}
