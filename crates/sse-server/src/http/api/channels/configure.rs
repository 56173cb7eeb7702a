//! `PUT /channels/{name}`: creates a channel, or replaces its settings.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;

use super::{channel_of, check_settings, description_json, etag};
use crate::{
    access::Right,
    broker::Publisher,
    budget::ClientNet,
    http::{
        access::{caller::Caller, caller_quota::quota_of},
        api::publish_quota::take_new_channels,
        error::{ApiError, ApiResult},
        request::{channel_settings::SettingsBody, json_body::read_json},
        state::AppState,
    },
};

/// A body that works.
const EXAMPLE: &str = r#"{"ttl":"24h","ttl_closed":"1h"}"#;

/// Creates or configures a channel.
pub(in crate::http) async fn configure(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    state.origins.check_publish(&request)?;
    let channel = channel_of(&request, &caller, &[Right::Manage], &[])?;
    if matches!(channel.as_str(), "." | "..") {
        return Err(ApiError::InvalidRequest(
            "a new channel cannot be named . or .., because clients remove them from a path"
                .to_owned(),
        ));
    }
    let body: SettingsBody = read_json(&request, payload, &state, EXAMPLE).await?;
    let settings = body.settings()?;
    check_settings(&state, &channel, settings)?;
    let caller = caller.after_wait()?;
    caller.require(Right::Manage, std::slice::from_ref(&channel))?;
    let client = ClientNet::of_request(&request);
    let quota = quota_of(&request, &state, &caller);
    take_new_channels(&quota, &state, client, [&channel]).await?;
    let publisher = Publisher::of_client(client);
    let broker = state.hub.broker();
    let configured = broker.configure(publisher, &channel, settings).await?;
    let mut response = if configured.created {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    let streams = state.streams.list().await.count_streams(&channel);
    response.insert_header(etag(configured.description.newest));
    Ok(response.json(description_json(&state, &configured.description, streams)))
}
