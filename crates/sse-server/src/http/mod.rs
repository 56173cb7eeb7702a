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

mod access;
mod api;
mod error;
mod ops;
mod request;
mod state;

use actix_web::{
    HttpRequest, HttpResponse, Route, guard,
    web::{self, ServiceConfig},
};
use actix_web_lab::extract::LocalData;

pub use self::{
    access::cors::{Origins, explain_rejected_preflight},
    api::HistoryBudget,
    request::body::BodyMemory,
    state::{AppState, RequestLimits},
};
use self::{
    api::{batch, history, publish, stream},
    error::{ApiError, shortened},
    ops::{health, metrics},
};

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
                .route(web::get().to(stream::stream))
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
                .route(get_or_head().to(metrics::metrics))
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

async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound(shortened(request.uri().path())))
}
