//! `GET /events`: the history of one or several channels.
//!
//! The [`HistoryPager`] decides what to read and what belongs into the answer, and the
//! [`HistoryMerge`] does so for several channels. This module reads the request and calls the
//! broker, and `history_answer` writes the answer.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use sse_proto::{Channel, EventId};

use super::history_answer::HistoryAnswer;
use crate::{
    broker::{Broker, PageLimits},
    budget::ClientNet,
    channel::{
        Filter, StartAt,
        history_pager::{
            HistoryPager, HistoryQuery, HistoryStart,
            merge::{HistoryMerge, MergeQuery},
        },
        start::{LastSearch, SCAN_LIMITS, resolve_start},
    },
    http::{
        access::caller::Caller,
        error::ApiResult,
        request::{
            event_filter,
            query::Params,
            start_params::{self, StartParam},
        },
        state::AppState,
    },
};

/// Events per answer, unless the request says otherwise.
const EVENTS_DEFAULT: usize = 1000;
/// Largest value of `limit`.
const EVENTS_MAX: usize = 10_000;

/// What a client asks for.
struct HistoryRequest {
    client: Option<ClientNet>,
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
    _caller: Caller,
) -> ApiResult<HttpResponse> {
    let params = start_params::parse_query(&request, &["channel", "event", "limit"])?;
    let asked = parse_request(&request, &params)?;
    let permit = state.history_budget.acquire(asked.client).await?;
    let starts = resolve_starts(state.hub.broker(), &asked).await?;
    let answer = read_answer(&state, asked, starts).await?;
    let (mut response, body) = answer.encode(&request, &params);
    Ok(response.body(permit.body(body).await?))
}

fn parse_request(request: &HttpRequest, params: &Params) -> ApiResult<HistoryRequest> {
    let channels = params.channels()?;
    let filter = event_filter::parse(params)?;
    let start = StartParam::from_request(request, params)?;
    Ok(HistoryRequest {
        client: ClientNet::of_request(request),
        until: start_params::parse_until(params)?,
        limit: effective_limit(params, start.as_ref(), channels.len())?,
        channels,
        filter,
        start,
    })
}

/// Returns the number of events to return. `last=5` also limits the answer to 5 events per channel.
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
    broker: &Broker,
    asked: &HistoryRequest,
) -> ApiResult<Vec<(Channel, HistoryStart)>> {
    let channels = asked.channels.clone();
    let start = asked.start.as_ref();
    let starts = start_params::start_positions(start, StartAt::Oldest, channels, broker).await;
    let search = last_search(asked);
    let mut resolved = Vec::with_capacity(starts.len());
    for (channel, start) in starts {
        let start = resolve_history_start(broker, &channel, start, search).await?;
        resolved.push((channel, start));
    }
    Ok(resolved)
}

/// A search in many channels costs no more than a search in one.
fn last_search(asked: &HistoryRequest) -> LastSearch<'_> {
    let share = asked.channels.len().max(1);
    LastSearch {
        filter: &asked.filter,
        until: asked.until,
        client: asked.client,
        limits: PageLimits {
            events_max: SCAN_LIMITS.events_max / share,
            bytes_max: SCAN_LIMITS.bytes_max / share,
        },
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

async fn read_answer(
    state: &AppState,
    asked: HistoryRequest,
    starts: Vec<(Channel, HistoryStart)>,
) -> ApiResult<HistoryAnswer> {
    let broker = state.hub.broker();
    let (events, answer) = match <[_; 1]>::try_from(starts) {
        Ok([start]) => read_one(broker, asked, start).await?,
        Err(starts) => read_several(broker, asked, starts).await?,
    };
    state.metrics.history_read(events);
    Ok(answer)
}

async fn read_one(
    broker: &Broker,
    asked: HistoryRequest,
    (channel, start): (Channel, HistoryStart),
) -> ApiResult<(usize, HistoryAnswer)> {
    let query = HistoryQuery {
        channel,
        filter: asked.filter,
        until: asked.until,
        limit: asked.limit,
    };
    let mut pager = HistoryPager::new(query, start);
    read_pages(broker, &mut pager).await?;
    Ok((pager.events(), HistoryAnswer::One(pager.finish())))
}

async fn read_several(
    broker: &Broker,
    asked: HistoryRequest,
    starts: Vec<(Channel, HistoryStart)>,
) -> ApiResult<(usize, HistoryAnswer)> {
    let query = MergeQuery {
        filter: asked.filter,
        until: asked.until,
        limit: asked.limit,
    };
    let mut merge = HistoryMerge::new(query, starts);
    while let Some(mut part) = merge.next_part() {
        read_pages(broker, &mut part.pager).await?;
        merge.add_part(part);
    }
    Ok((merge.events(), HistoryAnswer::Several(merge.finish())))
}

async fn read_pages(broker: &Broker, pager: &mut HistoryPager) -> ApiResult<()> {
    while let Some((from, limits)) = pager.next_read() {
        let page = broker.read(pager.channel(), from, limits).await?;
        pager.add_page(page);
    }
    if let Some(bound) = pager.reached_end() {
        let loss = broker.loss_spanning(pager.channel(), bound).await?;
        pager.add_loss(bound, loss);
    }
    Ok(())
}
