//! What every handler shares.

use std::{net::SocketAddr, sync::Arc};

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use super::{BodyMemory, HistoryBudget, Origins};
use crate::{channel::Hub, fanout::stream_body::Streams, metrics::Metrics};

/// What a request may bring.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Data of one event.
    pub event_bytes_max: usize,
    /// Body of a batch.
    pub batch_bytes_max: usize,
    /// Events of a batch.
    pub batch_events_max: usize,
    /// Keys of a channel: a batch with more would never fit.
    pub keys_max: usize,
}

/// What every request handler needs; each worker thread has a clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The channels and the broker behind them.
    pub hub: Hub,
    /// The counters.
    pub metrics: Metrics,
    /// What a request may bring.
    pub limits: RequestLimits,
    /// Memory for the bodies of all requests.
    pub body_memory: Arc<BodyMemory>,
    /// Room for the answers of `GET /events`.
    pub history_budget: HistoryBudget,
    /// Other sites that may read and publish.
    pub origins: Origins,
    /// What streams are made from.
    pub streams: Streams,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Which broker it is, for people.
    pub broker_name: &'static str,
}

/// Where the server listens.
pub(crate) fn local_address(request: &HttpRequest) -> SocketAddr {
    // actix's own default is a loopback address, under which origins are checked most strictly.
    request
        .app_data::<LocalData<AppState>>()
        .map_or_else(|| request.app_config().local_addr(), |state| state.address)
}
