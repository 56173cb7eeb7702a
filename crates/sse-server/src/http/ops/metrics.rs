//! `GET /metrics`: the metrics of this process, for Prometheus.

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::header::{self, Accept, Header as _},
};
use actix_web_lab::extract::LocalData;

use super::prometheus_text::{Format, to_prometheus_text};
use crate::http::{access::caller::Caller, state::AppState};

/// All metrics, in the text format that the client prefers.
pub(crate) async fn metrics(
    request: HttpRequest,
    state: LocalData<AppState>,
    _caller: Caller,
) -> impl Responder {
    let format = preferred_format(&request);
    let text = state.metrics.render();
    HttpResponse::Ok()
        .content_type(format.content_type())
        .insert_header((header::VARY, "Accept"))
        .body(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => to_prometheus_text(&text),
        })
}

/// A request without a valid `Accept` gets the format that every client reads.
fn preferred_format(request: &HttpRequest) -> Format {
    Accept::parse(request).map_or(Format::Prometheus, |accept| Format::preferred_by(&accept))
}
