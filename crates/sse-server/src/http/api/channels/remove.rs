//! `DELETE /channels/{name}`: deletes a channel, its events and its keys.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde_json::json;

use super::channel_of;
use crate::{
    access::Right,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        state::AppState,
    },
};

/// Deletes a channel. A repetition within a day gets the same response.
pub(in crate::http) async fn remove(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    state.origins.check_publish(&request)?;
    let channel = channel_of(&request, &caller, &[Right::Manage], &[])?;
    let tombstone = state.hub.broker().delete(&channel).await?;
    let tombstone = tombstone.ok_or(ApiError::NoSuchChannel)?;
    Ok(HttpResponse::Ok().json(json!({ "id": tombstone.end })))
}
