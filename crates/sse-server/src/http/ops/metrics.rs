//! `GET /metrics`: the metrics of this process, for Prometheus.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, Accept, Header as _},
    },
};
use actix_web_lab::extract::LocalData;

use super::prometheus_text::{Format, to_prometheus_text};
use crate::{
    access::ServerRight,
    http::{access::caller::Caller, error::ApiResult, request::query::Params, state::AppState},
};

/// All metrics, in the text format that the client prefers.
pub(crate) async fn metrics(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: ApiResult<Caller>,
) -> ApiResult<HttpResponse> {
    let format = preferred_format(&request);
    let mut response = HttpResponse::Ok();
    response
        .content_type(format.content_type())
        .insert_header((header::VARY, "Accept"));
    let check_params = || Params::parse_any(request.query_string())?.check_known(&[]);
    // HEAD returns nothing that is worth a right, and nothing that is worth the work.
    if request.method() == Method::HEAD {
        check_params()?;
        return Ok(response.finish());
    }
    caller?.require_server(ServerRight::Observe)?;
    check_params()?;
    let text = state.metrics.render();
    Ok(response.body(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus_text(&text),
    }))
}

/// A request without a valid `Accept` gets the format that every client reads.
fn preferred_format(request: &HttpRequest) -> Format {
    Accept::parse(request).map_or(Format::Prometheus, |accept| Format::preferred_by(&accept))
}
