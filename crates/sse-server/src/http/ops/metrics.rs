//! `GET /metrics`: the metrics of this process, for Prometheus.

use actix_web::{HttpResponse, Responder};
use actix_web_lab::extract::LocalData;

use crate::http::{access::caller::Caller, state::AppState};

/// All metrics, as `OpenMetrics` text.
pub(crate) async fn metrics(state: LocalData<AppState>, _caller: Caller) -> impl Responder {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(state.metrics.render())
}
