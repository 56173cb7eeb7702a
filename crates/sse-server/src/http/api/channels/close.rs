//! `POST /channels/{name}/close`: ends a channel.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use serde::Deserialize;
use serde_json::json;

use super::{channel_of, etag};
use crate::{
    access::Right,
    broker::{BrokerError, Publisher, lifecycle::Write},
    budget::ClientNet,
    http::{
        access::{caller::Caller, caller_quota::quota_of},
        api::publish_quota::take_new_channels,
        error::{ApiError, ApiResult},
        request::{condition, json_body::read_json},
        state::AppState,
    },
};

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseRequest {
    reason: String,
}

/// Closes a channel.
pub(in crate::http) async fn close(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    state.origins.check_publish(&request)?;
    let channel = channel_of(&request, &caller, &[Right::Manage], &[])?;
    let condition = condition::parse(&request)?;
    let example = r#"{"reason":"completed"}"#;
    let CloseRequest { reason } = read_json(&request, payload, &state, example).await?;
    let reason = reason
        .parse()
        .map_err(|why| ApiError::InvalidRequest(format!("{reason:?} {why}")))?;
    let caller = caller.after_wait()?;
    caller.require(Right::Manage, std::slice::from_ref(&channel))?;
    let client = ClientNet::of_request(&request);
    let quota = quota_of(&request, &state, &caller);
    take_new_channels(&quota, &state, client, [&channel]).await?;
    let write = Write {
        close: Some(reason),
        condition,
        ..Write::default()
    };
    let publisher = Publisher::of_client(client);
    let written = state.hub.broker().write(publisher, &channel, write).await;
    let may_publish = caller.has_one_of(&[Right::Publish], &channel);
    let written = written.map_err(|error| match error {
        BrokerError::ConditionFailed { .. } if !may_publish => ApiError::ConditionFailed,
        error => error.into(),
    })?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(written.newest))
        .json(json!({ "id": written.newest })))
}
