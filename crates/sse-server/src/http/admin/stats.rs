//! `GET /admin/stats`: what the dashboard's overview shows.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use serde::Serialize;

use super::{permission::check_permission, samples::Percentiles};
use crate::{
    access::ServerRight,
    http::{access::caller::Caller, error::ApiResult, request::query::Params, state::AppState},
};

/// What a node does now. Numbers that end with `total` count since the start of the process.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    pub(super) time_ms: u64,
    pub(super) started_ms: u64,
    pub(super) version: &'static str,
    pub(super) broker: &'static str,
    /// Whether a publish would work now.
    pub(super) ready: bool,
    /// Sentences about what is wrong.
    pub(super) problems: Vec<String>,
    pub(super) streams: u64,
    pub(super) behind_tail: u64,
    /// Streams that are more than a minute behind.
    pub(super) slow_streams: usize,
    pub(super) published_total: u64,
    pub(super) deliveries_total: u64,
    pub(super) sent_bytes_total: u64,
    pub(super) gaps_total: BTreeMap<&'static str, u64>,
    pub(super) rejected_total: BTreeMap<&'static str, u64>,
    /// From the read of an event by this node to its delivery, in the last seconds.
    pub(super) delivery_us: Percentiles,
    pub(super) budgets: Vec<Budget>,
    pub(super) channels: u64,
    pub(super) log_events: u64,
    pub(super) log_bytes: u64,
    /// Incidents that the feed left out.
    pub(super) dropped_total: u64,
}

/// How much of a limit is used.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Budget {
    pub(super) name: &'static str,
    pub(super) used: u64,
    pub(super) max: u64,
}

/// Whether a publish would work.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// Why it would fail; `None` if it would work.
    pub(super) failure: Option<Failure>,
    pub(super) warnings: Vec<crate::broker::Warning>,
}

/// Why a publish would fail.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// When it was noticed, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    /// As clients are sent it.
    pub(super) message: String,
}

/// Returns what the node does now.
pub(crate) async fn stats(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    state.dashboard.inspect(&state).await;
    Ok(HttpResponse::Ok().json(state.dashboard.stats(&state)))
}
