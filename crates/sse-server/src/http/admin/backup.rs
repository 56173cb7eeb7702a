//! `POST` and `GET /admin/backup`: copies of the log.
//!
//! A request names a copy and no path. The server writes it below its `--backup-dir`, and no route
//! reads it, so the right to administrate does not become a right to read events.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use serde::Deserialize;

use super::permission::check_permission;
use crate::{
    access::ServerRight,
    broker::backup::{BackupName, InvalidBackupName},
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::{json_body::read_json, query::Params},
        state::AppState,
    },
};

/// The body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    name: String,
}

/// Begins a copy. The response does not wait for it.
pub(crate) async fn start(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let asked: BackupRequest = read_json(&request, payload, &state, r#"{"name":"monday"}"#).await?;
    let name: BackupName = asked
        .name
        .parse()
        .map_err(|why: InvalidBackupName| ApiError::InvalidRequest(why.to_string()))?;
    caller.note_target(|| name.to_string());
    let status = state
        .hub
        .broker()
        .start_backup(&name, &state.backups)
        .await?;
    Ok(HttpResponse::Accepted().json(status))
}

/// Returns how far the last copy is.
pub(crate) async fn status(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let status = state.hub.broker().backup_status();
    Ok(HttpResponse::Ok().json(status.ok_or(ApiError::NoBackup)?))
}
