//! The edge: the only code that knows routes, status codes and headers.
//!
//! | file | route |
//! |---|---|
//! | `publish` | `GET` and `POST /event/{action}` |
//! | `batch` | `POST /events` |
//! | `subscribe` | `GET /stream` |
//! | `history` | `GET /events` |
//! | `health` | `GET /health/live`, `/health/ready`, `/metrics` |
//! | `idempotency` | publishing with a key, for `publish` and `batch` |
//! | `error` | the one table from errors to statuses |
//! | `history_memory` | the memory of what `history` answers |
//! | `start_params` | where a reader of `/stream` and of `GET /events` starts and ends |
//! | `event_filter` | which types of events such a reader wants |
//! | `query`, `content_type`, `body`, `origin` | what a request must be, before anything is done |

mod batch;
mod body;
mod content_type;
mod error;
mod event_filter;
mod health;
mod history;
mod history_memory;
mod idempotency;
mod origin;
mod publish;
mod query;
mod start_params;
mod subscribe;

use std::{net::SocketAddr, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, Route, guard,
    web::{self, ServiceConfig},
};
use actix_web_lab::extract::LocalData;

use self::error::{ApiError, shortened};
pub use self::{
    body::BodyMemory,
    history_memory::HistoryBudget,
    origin::{Origins, say_why_refused},
};
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

/// Adds all routes to an app.
pub fn routes(config: &mut ServiceConfig, state: AppState) {
    let get_or_head = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    config
        .app_data(LocalData::new(state))
        .service(
            web::resource("/event/{action:.*}")
                .route(web::get().to(publish::event))
                .route(web::post().to(publish::event))
                .default_service(only("GET, POST")),
        )
        .service(
            web::resource("/events")
                .route(web::get().to(history::events))
                .route(web::post().to(batch::events))
                .default_service(only("GET, POST")),
        )
        .service(
            web::resource("/stream")
                .route(web::get().to(subscribe::stream))
                .default_service(only("GET")),
        )
        .service(
            web::resource("/health/live")
                .route(get_or_head().to(health::live))
                .default_service(only("GET, HEAD")),
        )
        .service(
            web::resource("/health/ready")
                .route(get_or_head().to(health::ready))
                .default_service(only("GET, HEAD")),
        )
        .service(
            web::resource("/metrics")
                .route(get_or_head().to(health::metrics))
                .default_service(only("GET, HEAD")),
        )
        .default_service(web::to(not_found));
}

/// Refuses every other method, `HEAD` and `OPTIONS` too: they neither publish nor stream.
fn only(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        Err::<HttpResponse, _>(ApiError::MethodNotAllowed {
            method: shortened(request.method()),
            allow,
        })
    })
}

/// Where the server listens.
fn local_address(request: &HttpRequest) -> SocketAddr {
    // actix's own default is a loopback address, under which origins are checked most strictly.
    request
        .app_data::<LocalData<AppState>>()
        .map_or_else(|| request.app_config().local_addr(), |state| state.address)
}

async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound(shortened(request.uri().path())))
}
