//! What the handlers share.

use std::{net::SocketAddr, sync::Arc};

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use super::{
    BodyMemory, HistoryBudget, Origins, PublicUrl,
    error::{ApiError, ApiResult},
};
use crate::{access_log::AccessLog, channel::Hub, fanout::streams::Streams, metrics::Metrics};

/// What a request may contain.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Bytes of the data of one event.
    pub event_bytes_max: usize,
    /// Bytes of the body of a batch.
    pub batch_bytes_max: usize,
    /// Events per batch.
    pub batch_events_max: usize,
    /// Idempotency keys per channel; a batch with more would never fit.
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
    /// `the event` or `the batch`.
    what: &'static str,
    pub(super) max: usize,
    /// `bytes`, `events` or `keys`.
    unit: &'static str,
    /// The flag that sets the limit.
    flag: &'static str,
}

impl Limit {
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

/// What every handler needs; each worker thread has a clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The channels and the broker.
    pub hub: Hub,
    /// The metrics.
    pub metrics: Metrics,
    /// What a request may contain.
    pub limits: RequestLimits,
    /// Memory for the bodies of all requests.
    pub body_memory: Arc<BodyMemory>,
    /// Concurrency and memory for the responses of `GET /events`.
    pub history_budget: HistoryBudget,
    /// Origins whose pages may read or publish, and those of the server itself.
    pub origins: Origins,
    /// What streams are made from.
    pub streams: Streams,
    /// Where requests and streams are logged; `None` if the access log is off.
    pub access_log: Option<AccessLog>,
    /// Address that the server listens on.
    pub address: SocketAddr,
    /// Kind of the broker, for `/health/ready`.
    pub broker_name: &'static str,
}

/// Returns the address that the server listens on.
pub(crate) fn local_address(request: &HttpRequest) -> SocketAddr {
    // The default of actix is a loopback address, with which origins are checked most strictly.
    request
        .app_data::<LocalData<AppState>>()
        .map_or_else(|| request.app_config().local_addr(), |state| state.address)
}

/// Returns the URLs at which clients reach the server through a proxy.
pub(crate) fn public_urls(request: &HttpRequest) -> &[PublicUrl] {
    request
        .app_data::<LocalData<AppState>>()
        .map(|state| state.origins.public_urls())
        .unwrap_or_default()
}
