//! `GET /admin/log/…`: the log as `sse-server copy` reads it.
//!
//! The right to administrate shows the state of channels and the revoked credentials. Records also
//! need the right to subscribe to their channel, so that `admin` does not become a right to read
//! events. The responses share the limits of `GET /events`.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde::Serialize;
use sse_proto::{Channel, EventId};

use super::permission::check_permission;
use crate::{
    access::{Right, ServerRight},
    broker::BrokerError,
    budget::ClientNet,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::query::Params,
        state::AppState,
    },
};

/// Lists channels in the order of their names.
pub(crate) async fn channels(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["after", "since"])?;
    let after: Option<Channel> = params.parsed("after", |text| {
        let name = text.parse();
        name.map_err(|_| "is not the name of a channel".to_owned())
    })?;
    let since = parse_id(&params, "since")?;
    let log = state.hub.broker().source_log()?;
    respond(&request, &state, log.source_list(after, since)).await
}

/// Returns records of one channel and their keys.
pub(crate) async fn records(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    let params = Params::parse_any(request.query_string())?;
    let channel = params.channel()?;
    caller.require(Right::Subscribe, std::slice::from_ref(&channel))?;
    params.check_known(&["channel", "after"])?;
    let after = parse_id(&params, "after")?.unwrap_or_default();
    let log = state.hub.broker().source_log()?;
    respond(&request, &state, log.source_page(channel, after)).await
}

/// Returns the revoked credentials.
pub(crate) async fn revocations(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let log = state.hub.broker().source_log()?;
    respond(&request, &state, log.source_revocations()).await
}

fn parse_id(params: &Params, name: &'static str) -> ApiResult<Option<EventId>> {
    params.parsed(name, |text| {
        let id = text.parse();
        id.map_err(|_| "is not an id, such as 1700000000000-0".to_owned())
    })
}

async fn respond(
    request: &HttpRequest,
    state: &AppState,
    read: impl Future<Output = Result<impl Serialize, BrokerError>>,
) -> ApiResult<HttpResponse> {
    let permit = state
        .history_budget
        .acquire(ClientNet::of_request(request))
        .await?;
    let found = read.await.map_err(ApiError::from)?;
    let body = serde_json::to_vec(&found).expect("it has only strings and numbers");
    let body = permit.body(body).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(body))
}
