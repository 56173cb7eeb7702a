//! `GET /events`: the history of one or several channels.
//!
//! The [`HistoryPager`] decides what to read and what belongs into the response, and the
//! [`HistoryMerge`] does so for several channels. This module reads the request and calls the
//! broker, and `history_response` writes the response.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use sse_proto::{Channel, EventId};

use super::{history_memory::WAIT_MAX, history_response::HistoryResponse};
use crate::{
    broker::{Broker, PageLimits},
    budget::ClientNet,
    channel::{
        Filter, Searcher, StartAt,
        history_pager::{
            HistoryPager, HistoryQuery, HistoryStart,
            merge::{HistoryMerge, MergeQuery},
        },
        start::{LastSearch, SCAN_LIMITS, resolve_start},
    },
    http::{
        access::{caller::Caller, caller_quota::quota_of, channel_query::ChannelQuery},
        error::ApiResult,
        request::{
            event_filter,
            query::Params,
            start_params::{self, StartParam},
        },
        state::AppState,
    },
    quota::LimitKind,
};

/// Events per response, unless the request says otherwise.
const EVENTS_DEFAULT: usize = 1000;
/// Largest value of `limit`.
const EVENTS_MAX: usize = 10_000;

/// The log, and the client that searches it.
#[derive(Clone, Copy)]
struct SearchedLog<'a> {
    broker: &'a Broker,
    searcher: &'a Searcher,
}

/// What a client asks for.
struct HistoryRequest {
    /// In the order of their names.
    channels: Vec<Channel>,
    filter: Filter,
    start: Option<StartParam>,
    until: Option<EventId>,
    limit: usize,
}

/// Reads history, oldest first.
pub(crate) async fn events(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    let known = start_params::known_parameters(&["channel", "event", "limit"]);
    let ChannelQuery { params, channels } =
        ChannelQuery::of_read(request.query_string(), &caller, &known)?;
    let asked = parse_request(&request, &params, channels)?;
    quota_of(&request, &state, &caller).take(LimitKind::Searches, 1)?;
    let client = ClientNet::of_request(&request);
    let permit = state.history_budget.acquire(client).await?;
    let searcher = state.streams.pages.searches().of_client(client);
    let log = SearchedLog {
        broker: state.hub.broker(),
        searcher: &searcher.waiting_up_to(WAIT_MAX),
    };
    let starts = resolve_starts(log, &asked).await?;
    let history = read_history(&state, log, asked, starts).await?;
    let (mut response, body) = history.encode(&request, &params);
    Ok(response.body(permit.body(body).await?))
}

fn parse_request(
    request: &HttpRequest,
    params: &Params,
    channels: Vec<Channel>,
) -> ApiResult<HistoryRequest> {
    let filter = event_filter::parse(params)?;
    let start = StartParam::from_request(request, params)?;
    Ok(HistoryRequest {
        until: start_params::parse_until(params)?,
        limit: effective_limit(params, start.as_ref(), channels.len())?,
        channels,
        filter,
        start,
    })
}

/// Returns the number of events to return. `last=5` also limits the response to 5 events per channel.
fn effective_limit(
    params: &Params,
    start: Option<&StartParam>,
    channels: usize,
) -> ApiResult<usize> {
    let limit = params.number("limit", 1..=EVENTS_MAX)?;
    Ok(limit.unwrap_or_else(|| default_limit(start, channels)))
}

fn default_limit(start: Option<&StartParam>, channels: usize) -> usize {
    match start {
        Some(StartParam::Last(count)) => count.saturating_mul(channels).clamp(1, EVENTS_MAX),
        _ => EVENTS_DEFAULT,
    }
}

/// Without a start, history starts at the oldest event.
async fn resolve_starts(
    log: SearchedLog<'_>,
    asked: &HistoryRequest,
) -> ApiResult<Vec<(Channel, HistoryStart)>> {
    let channels = asked.channels.clone();
    let start = asked.start.as_ref();
    let starts = start_params::start_positions(start, StartAt::Oldest, channels, log.broker).await;
    let search = last_search(asked, log.searcher);
    let mut resolved = Vec::with_capacity(starts.len());
    for (channel, start) in starts {
        let start = resolve_history_start(log.broker, &channel, start, search).await?;
        resolved.push((channel, start));
    }
    Ok(resolved)
}

/// A search in many channels costs no more than a search in one.
fn last_search<'a>(asked: &'a HistoryRequest, searcher: &'a Searcher) -> LastSearch<'a> {
    let share = asked.channels.len().max(1);
    LastSearch {
        filter: &asked.filter,
        until: asked.until,
        limits: PageLimits {
            events_max: SCAN_LIMITS.events_max / share,
            bytes_max: SCAN_LIMITS.bytes_max / share,
        },
        searcher,
    }
}

async fn resolve_history_start(
    broker: &Broker,
    channel: &Channel,
    start: StartAt,
    search: LastSearch<'_>,
) -> ApiResult<HistoryStart> {
    Ok(match start {
        StartAt::Oldest => HistoryStart::oldest(),
        StartAt::Since(ms) => HistoryStart::since(ms),
        StartAt::Resume(cursor) => HistoryStart::at_cursor(cursor),
        start @ (StartAt::Now | StartAt::Last(_)) => {
            let position = resolve_start(broker, channel, &start, search);
            HistoryStart::at_cursor(Ok(position.await?))
        }
    })
}

async fn read_history(
    state: &AppState,
    log: SearchedLog<'_>,
    asked: HistoryRequest,
    starts: Vec<(Channel, HistoryStart)>,
) -> ApiResult<HistoryResponse> {
    let (events, history) = match <[_; 1]>::try_from(starts) {
        Ok([start]) => read_one(log, asked, start).await?,
        Err(starts) => read_several(log, asked, starts).await?,
    };
    state.metrics.history_read(events);
    Ok(history)
}

async fn read_one(
    log: SearchedLog<'_>,
    asked: HistoryRequest,
    (channel, start): (Channel, HistoryStart),
) -> ApiResult<(usize, HistoryResponse)> {
    let query = HistoryQuery {
        channel,
        filter: asked.filter,
        until: asked.until,
        limit: asked.limit,
    };
    let mut pager = HistoryPager::new(query, start);
    read_pages(log, &mut pager).await?;
    Ok((pager.events(), HistoryResponse::One(pager.finish())))
}

async fn read_several(
    log: SearchedLog<'_>,
    asked: HistoryRequest,
    starts: Vec<(Channel, HistoryStart)>,
) -> ApiResult<(usize, HistoryResponse)> {
    let query = MergeQuery {
        filter: asked.filter,
        until: asked.until,
        limit: asked.limit,
    };
    let mut merge = HistoryMerge::new(query, starts);
    while let Some(mut part) = merge.next_part() {
        read_pages(log, &mut part.pager).await?;
        merge.add_part(part);
    }
    Ok((merge.events(), HistoryResponse::Several(merge.finish())))
}

async fn read_pages(log: SearchedLog<'_>, pager: &mut HistoryPager) -> ApiResult<()> {
    let SearchedLog { broker, searcher } = log;
    while let Some((from, limits)) = pager.next_read() {
        let turn = if pager.is_search() {
            Some(searcher.start_page(limits.events_max).await?)
        } else {
            None
        };
        let page = broker.read(pager.channel(), from, limits).await?;
        if let Some(turn) = turn {
            turn.finish(page.events.len());
        }
        pager.add_page(page);
    }
    if let Some(bound) = pager.reached_end() {
        let loss = broker.loss_spanning(pager.channel(), bound).await?;
        pager.add_loss(bound, loss);
    }
    Ok(())
}
