//! `GET /metrics`: the metrics of this process, for Prometheus.

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::{
        Method,
        header::{self, Accept, Header as _},
    },
};
use actix_web_lab::extract::LocalData;

use super::prometheus_text::{Format, to_prometheus_text};
use crate::{
    access::ServerRight,
    http::{access::caller::Caller, error::ApiResult, state::AppState},
};

/// All metrics, in the text format that the client prefers.
pub(crate) async fn metrics(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<impl Responder> {
    // HEAD returns nothing that is worth a right.
    if request.method() != Method::HEAD {
        caller.require_server(ServerRight::Observe)?;
    }
    let format = preferred_format(&request);
    let text = state.metrics.render();
    Ok(HttpResponse::Ok()
        .content_type(format.content_type())
        .insert_header((header::VARY, "Accept"))
        .body(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => to_prometheus_text(&text),
        }))
}

/// A request without a valid `Accept` gets the format that every client reads.
fn preferred_format(request: &HttpRequest) -> Format {
    Accept::parse(request).map_or(Format::Prometheus, |accept| Format::preferred_by(&accept))
}
