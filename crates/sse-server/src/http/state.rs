//! What the handlers share.

use std::{net::SocketAddr, sync::Arc};

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use super::{BodyMemory, HistoryBudget, Origins};
use crate::{channel::Hub, fanout::streams::Streams, metrics::Metrics};

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
    /// Origins whose pages may read and publish.
    pub origins: Origins,
    /// What streams are made from.
    pub streams: Streams,
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
