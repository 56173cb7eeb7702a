//! `GET /events`: history as JSON, or as lines that can be posted back.
//!
//! The [`HistoryPager`] decides what to read and what belongs into the answer. This module reads
//! the request, calls the broker, and writes the answer.

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header};
use actix_web_lab::extract::LocalData;
use serde::Serialize;
use sse_proto::{
    Channel, Position,
    api::{Gap, History, HistoryEvent},
    units::time_text,
};

use crate::broker::Broker;
use crate::channel::{
    StartAt,
    history_pager::{HistoryPager, HistoryQuery, HistoryStart, gap_line},
    start::{LastSearch, SCAN_LIMITS, resolve_start},
};
use crate::http::{
    access::caller::Caller,
    error::ApiResult,
    request::{
        event_filter,
        query::Params,
        start_params::{self, START_PARAMETERS, StartParam},
    },
    response_headers::NO_STORE_NO_TRANSFORM,
    state::AppState,
};

/// Events per answer, unless the request says otherwise.
const EVENTS_DEFAULT: usize = 1000;
/// Largest value of `limit`.
const EVENTS_MAX: usize = 10_000;

/// Reads history, oldest first.
pub(crate) async fn events(
    request: HttpRequest,
    state: LocalData<AppState>,
    _caller: Caller,
) -> ApiResult<HttpResponse> {
    let params = start_params::parse_query(&request, &["channel", "event", "limit"])?;
    let channel = params.channel()?;
    let filter = event_filter::parse(&params)?;
    let start = StartParam::from_request(&request, &params)?;
    let query = HistoryQuery {
        channel,
        filter,
        until: start_params::parse_until(&params)?,
        limit: effective_limit(&params, start.as_ref())?,
    };
    let permit = state.history_budget.acquire().await?;
    let start = resolve_history_start(&state, start.as_ref(), &query).await?;
    let pager = read_history(&state, HistoryPager::new(query, start)).await?;
    state.metrics.history_read(pager.events());
    let (mut response, answer) = encode_answer(&request, &params, &pager.finish());
    Ok(response.body(permit.body(answer).await?))
}

/// Returns the head of the response, and its body.
fn encode_answer(
    request: &HttpRequest,
    params: &Params,
    history: &History,
) -> (HttpResponseBuilder, Vec<u8>) {
    let mut response = response_head(params, history);
    if wants_lines(request) {
        // A client may read line by line, so no proxy may hold back the end of a line.
        response.insert_header(NO_STORE_NO_TRANSFORM);
        response.content_type("application/x-ndjson");
        (response, to_lines(history))
    } else {
        response.content_type("application/json");
        (response, to_json(history))
    }
}

fn response_head(params: &Params, history: &History) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if history.more {
        let next = link_to_next(params, &history.next);
        response.insert_header((header::LINK, next));
    }
    response
}

/// Returns the number of events to return. `last=5` also limits the answer to 5 events.
fn effective_limit(params: &Params, start: Option<&StartParam>) -> ApiResult<usize> {
    let limit = params.number("limit", 1..=EVENTS_MAX)?;
    Ok(limit.unwrap_or_else(|| default_limit(start)))
}

fn default_limit(start: Option<&StartParam>) -> usize {
    match start {
        Some(StartParam::Last(count)) => (*count).clamp(1, EVENTS_MAX),
        _ => EVENTS_DEFAULT,
    }
}

/// Without a start, history starts at the oldest event.
async fn resolve_history_start(
    state: &AppState,
    param: Option<&StartParam>,
    query: &HistoryQuery,
) -> ApiResult<HistoryStart> {
    let broker = state.hub.broker();
    Ok(match start_at(param, &query.channel, broker).await {
        StartAt::Oldest => HistoryStart::oldest(),
        StartAt::Since(ms) => HistoryStart::since(ms),
        StartAt::Resume(cursor) => HistoryStart::at_cursor(cursor),
        start @ (StartAt::Now | StartAt::Last(_)) => {
            let position = resolve_start(broker, &query.channel, &start, last_search(query));
            HistoryStart::at_cursor(Ok(position.await?))
        }
    })
}

async fn start_at(param: Option<&StartParam>, channel: &Channel, broker: &Broker) -> StartAt {
    let channels = vec![channel.clone()];
    let starts = start_params::start_positions(param, StartAt::Oldest, channels, broker).await;
    let start = starts.into_iter().next();
    start.map_or(StartAt::Oldest, |(_, start)| start)
}

const fn last_search(query: &HistoryQuery) -> LastSearch<'_> {
    LastSearch {
        filter: &query.filter,
        until: query.until,
        limits: SCAN_LIMITS,
    }
}

async fn read_history(state: &AppState, mut pager: HistoryPager) -> ApiResult<HistoryPager> {
    let broker = state.hub.broker();
    while let Some((from, limits)) = pager.next_read() {
        let page = broker.read(pager.channel(), from, limits).await?;
        pager.add_page(page);
    }
    if let Some(bound) = pager.reached_end() {
        let loss = broker.loss_spanning(pager.channel(), bound).await?;
        pager.add_loss(bound, loss);
    }
    Ok(pager)
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("history has only strings")
}

fn to_lines(history: &History) -> Vec<u8> {
    let gap = history
        .gap
        .as_ref()
        .map(|gap| first_line(gap, &history.next));
    let mut lines = Vec::new();
    for event in gap.iter().chain(&history.events) {
        lines.extend(to_json(event));
        lines.push(b'\n');
    }
    lines
}

/// Returns the gap as the first line. A gap cannot be posted, so that a copy of the lines to
/// another channel never hides the hole.
fn first_line(gap: &Gap, next: &str) -> HistoryEvent {
    let id = gap.oldest.map_or_else(
        || next.to_owned(),
        |oldest| Position::At(oldest).to_string(),
    );
    let time = gap.oldest.map(|oldest| time_text(oldest.ms));
    gap_line(id, time.unwrap_or_default(), gap)
}

/// Returns the link to the next part (RFC 8288). Lines have no other field for it.
///
/// The link is only a query, which a client resolves against the URL that it requested: a proxy may
/// have removed a prefix of the path.
fn link_to_next(params: &Params, next: &str) -> String {
    let query = params.with_instead_of(&START_PARAMETERS, ("last_event_id", next));
    format!("<?{query}>; rel=\"next\"")
}

fn wants_lines(request: &HttpRequest) -> bool {
    accept_header(request)
        .is_some_and(|accept| accept.contains("ndjson") || accept.contains("jsonl"))
}

fn accept_header(request: &HttpRequest) -> Option<&str> {
    let accept = request.headers().get(header::ACCEPT)?;
    accept.to_str().ok()
}
