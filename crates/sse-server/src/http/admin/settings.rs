//! `GET /admin/settings`: the settings in effect, and where each one comes from.
//!
//! Passwords and digests of keys are hidden, as in `sse-server config print`.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde_json::json;

use super::permission::check_permission;
use crate::{
    access::ServerRight,
    http::{access::caller::Caller, error::ApiResult, request::query::Params, state::AppState},
};

/// Lists the settings.
pub(crate) async fn settings(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let printed = state.dashboard.settings();
    let tables = printed.tables();
    Ok(HttpResponse::Ok().json(json!({
        "settings": printed.rows(),
        "tls": tables.tls,
        "access": tables.access,
    })))
}
