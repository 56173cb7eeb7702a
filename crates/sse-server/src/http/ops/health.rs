//! `GET /health/live` and `GET /health/ready`.

use actix_web::{HttpResponse, Responder, http::header};
use actix_web_lab::extract::LocalData;
use serde_json::json;

use crate::http::{access::caller::Caller, error::ApiError, state::AppState};

/// The process responds.
pub(crate) async fn live(_caller: Caller) -> impl Responder {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "status": "live" }))
}

/// A publish would work now: the broker made a real round trip for this response.
pub(crate) async fn ready(
    state: LocalData<AppState>,
    _caller: Caller,
) -> Result<impl Responder, ApiError> {
    let warnings = state.hub.broker().check().await?;
    let warnings: Vec<_> = warnings
        .iter()
        .map(|warning| json!({ "code": warning.code, "message": warning.message }))
        .collect();
    let body = json!({ "status": "ready", "broker": state.broker_name, "warnings": warnings });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body))
}
