//! `GET /admin/channels/busiest`: the channels with the most publishes on this node.
//!
//! The rates are averages over about a minute. The list contains names of channels, as the list of
//! streams does, so it needs the right `observe`.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde_json::{Value, json};

use super::permission::check_permission;
use crate::{
    access::ServerRight,
    budget::ClientNet,
    http::{access::caller::Caller, error::ApiResult, request::query::Params, state::AppState},
};

/// Channels per response, which is also the number without `limit`.
const LIMIT_MAX: usize = 200;
const JSON: &str = "application/json";

/// Lists the busiest channels.
pub(crate) async fn busiest(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["limit"])?;
    let limit = params.number("limit", 1..=LIMIT_MAX)?;
    let permit = state
        .history_budget
        .acquire(ClientNet::of_request(&request));
    let permit = permit.await?;
    let busiest = state.metrics.busiest().top(limit.unwrap_or(LIMIT_MAX));
    let live = state.streams.list().await;
    let channels: Vec<Value> = busiest
        .into_iter()
        .map(|found| {
            json!({
                "channel": found.channel,
                "events_per_s": rounded(found.events_per_s),
                "bytes_per_s": rounded(found.bytes_per_s),
                "streams": live.count_streams(&found.channel),
            })
        })
        .collect();
    let body = json!({ "channels": channels }).to_string();
    let body = permit.body(body.into_bytes()).await?;
    Ok(HttpResponse::Ok().content_type(JSON).body(body))
}

/// Rounds a rate to thousandths.
fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}
