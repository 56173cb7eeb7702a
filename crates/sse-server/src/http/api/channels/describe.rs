//! `GET` and `HEAD /channels/{name}`: what a channel is.

use actix_web::{HttpRequest, HttpResponse, http::Method};
use actix_web_lab::extract::LocalData;

use super::{channel_of, description_json, etag};
use crate::{
    access::Right,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        state::AppState,
    },
};

/// Describes a channel.
pub(in crate::http) async fn describe(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    let channel = channel_of(&request, &caller, &[Right::Subscribe, Right::Manage], &[])?;
    let description = state.hub.broker().describe(&channel).await?;
    let description = description.ok_or(ApiError::NoSuchChannel)?;
    let mut response = HttpResponse::Ok();
    response.insert_header(etag(description.newest));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let streams = state.streams.list().await.count_streams(&channel);
    Ok(response.json(description_json(&state, &description, streams)))
}
