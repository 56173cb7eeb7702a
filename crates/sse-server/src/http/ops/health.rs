//! `GET /health/live` and `GET /health/ready`.

use actix_web::{HttpResponse, Responder, http::header};
use actix_web_lab::extract::LocalData;
use serde_json::{Value, json};

use crate::{
    access::ServerRight,
    broker::Warning,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        state::AppState,
    },
};

/// The process responds.
pub(crate) async fn live() -> impl Responder {
    response(&json!({ "status": "live" }))
}

/// The process responds, and the route has the methods `allow`.
pub(crate) fn options(allow: &'static str) -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ALLOW, allow))
        .finish()
}

/// A publish would work now: the broker made a real round trip within the last second.
///
/// A server that drains is not ready, so that balancers send its clients elsewhere.
///
/// Load balancers have no credential, so the route is open. The warnings are only for callers with
/// the right to observe, and a wrong credential is the same as none.
pub(crate) async fn ready(
    state: LocalData<AppState>,
    caller: Result<Caller, ApiError>,
) -> ApiResult<HttpResponse> {
    if state.streams.drain.plan().is_some() {
        return Err(ApiError::Draining);
    }
    let mut warnings = state.readiness.check(state.hub.broker()).await?;
    let may_observe = |caller: Caller| caller.permits_server(ServerRight::Observe);
    if caller.is_ok_and(may_observe) {
        warnings.extend(state.access_warning());
        warnings.extend(state.certificate_warnings());
    } else {
        warnings.clear();
    }
    Ok(response(&ready_body(state.broker_name, &warnings)))
}

fn ready_body(broker_name: &str, warnings: &[Warning]) -> Value {
    let warnings: Vec<_> = warnings.iter().map(warning_json).collect();
    json!({ "status": "ready", "broker": broker_name, "warnings": warnings })
}

fn warning_json(warning: &Warning) -> Value {
    json!({ "code": warning.code, "message": warning.message })
}

fn response(body: &Value) -> HttpResponse {
    HttpResponse::Ok().json(body)
}
