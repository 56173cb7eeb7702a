//! `GET /health/live`, `GET /health/ready`, `GET /metrics`: for whoever runs the server.

use actix_web::{HttpResponse, Responder, http::header};
use actix_web_lab::extract::LocalData;
use serde_json::json;

use crate::http::{error::ApiError, state::AppState};

/// The process answers.
pub(crate) async fn live() -> impl Responder {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "status": "live" }))
}

/// A publish would work now: the broker did a real round trip for this answer.
pub(crate) async fn ready(state: LocalData<AppState>) -> Result<impl Responder, ApiError> {
    let warnings = state.hub.broker().check().await?;
    let warnings: Vec<_> = warnings
        .iter()
        .map(|warning| json!({ "code": warning.code, "message": warning.message }))
        .collect();
    let answer = json!({ "status": "ready", "broker": state.broker_name, "warnings": warnings });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(answer))
}
