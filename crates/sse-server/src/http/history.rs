//! `GET /events`: the same log as plain JSON, or as lines that can be posted back.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
};
use actix_web_lab::extract::LocalData;
use serde::Serialize;
use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, GapReason, History, HistoryEvent},
    units::time_text,
};

use super::{
    AppState,
    error::ApiError,
    event_filter,
    query::Params,
    start_params::{self, PARAMETERS, START_PARAMETERS, StartParam},
};
use crate::{
    broker::{self, GAP, Page, PageLimits, ReadFrom, Stored},
    channel::{
        Filter, Settlement, StartAt,
        start::{LastSearch, SCAN_LIMITS, resolve_start},
    },
};

const EVENTS_DEFAULT: usize = 1000;
const EVENTS_MAX: usize = 10_000;
/// An answer ends after this many bytes of data, or one event; `more` says so. What a filter keeps back counts.
const BYTES_MAX: usize = 4 << 20;
/// And when a filter has kept back so many events.
const LOOKED_THROUGH_MAX: usize = 100_000;
/// With a filter, one read of the log.
const LOOKED_THROUGH_AT_ONCE: usize = 1000;

/// Reads history, oldest first.
pub(super) async fn events(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> Result<HttpResponse, ApiError> {
    let known = [&["channel", "event", "limit"], &PARAMETERS[..]].concat();
    let params = Params::parse(request.query_string(), &known)?;
    let channel = params.channel()?;
    let filter = event_filter::of(&params)?;
    let start = StartParam::from_request(&request, &params)?;
    let until = start_params::parse_until(&params)?;
    let limit = match (limit(&params)?, &start) {
        (Some(limit), _) => limit,
        (None, Some(StartParam::Last(count))) => (*count).clamp(1, EVENTS_MAX),
        (None, _) => EVENTS_DEFAULT,
    };
    let turn = state.history_budget.acquire().await?;
    let claim = Claim::of(start.as_ref(), &channel, &filter, until, &state).await?;
    let mut history = read(&state, channel, &claim, until, &filter, limit).await?;
    if let Some(bound) = until {
        add_unreported(&state, &claim, bound, &mut history).await?;
    }
    state.metrics.history_read(count(&history));
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if history.more {
        response.insert_header((
            header::LINK,
            link_to_next(request.path(), &params, &history.next),
        ));
    }
    let answer = if wants_lines(&request) {
        response.content_type("application/x-ndjson");
        lines(&history)
    } else {
        response.content_type("application/json");
        json(&history)
    };
    drop(history);
    Ok(response.body(turn.body(answer).await?))
}

fn json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("history has only strings")
}

fn lines(history: &History) -> Vec<u8> {
    let gap = history.gap.as_ref().map(|gap| gap_line(gap, &history.next));
    let mut lines = Vec::new();
    for event in gap.iter().chain(&history.events) {
        lines.extend(json(event));
        lines.push(b'\n');
    }
    lines
}

/// What to ask for to read on (RFC 8288): lines have no other place that says whether there is more.
fn link_to_next(path: &str, params: &Params, next: &str) -> String {
    format!(
        "<{path}?{}>; rel=\"next\"",
        params.with_instead_of(&START_PARAMETERS, ("last_event_id", next))
    )
}

fn limit(params: &Params) -> Result<Option<usize>, ApiError> {
    let Some(text) = params.one("limit")? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(limit) if (1..=EVENTS_MAX).contains(&limit) => Ok(Some(limit)),
        _ => Err(ApiError::InvalidParameter {
            name: "limit",
            why: format!("is a number from 1 to {EVENTS_MAX}"),
        }),
    }
}

/// Where the reader says that it starts.
struct Claim {
    from: ReadFrom,
    /// As a gap shows it.
    shown: String,
    /// It is no cursor of this channel.
    is_unreadable: bool,
}

impl Claim {
    async fn of(
        param: Option<&StartParam>,
        channel: &Channel,
        filter: &Filter,
        until: Option<EventId>,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let broker = state.hub.broker();
        let channels = vec![channel.clone()];
        let starts = start_params::start_positions(param, StartAt::Oldest, channels, broker).await;
        let start = starts
            .into_iter()
            .next()
            .map_or(StartAt::Oldest, |(_, start)| start);
        let (from, shown) = match &start {
            StartAt::Oldest => (ReadFrom::Oldest, EventId::ZERO.to_string()),
            StartAt::Resume(Err(unreadable)) => (ReadFrom::Oldest, unreadable.to_string()),
            StartAt::Since(ms) => {
                let position = Position::At(EventId::new(*ms, 0));
                (ReadFrom::Time(*ms), position.to_string())
            }
            StartAt::Now | StartAt::Last(_) | StartAt::Resume(Ok(_)) => {
                let limits = SCAN_LIMITS;
                let search = LastSearch {
                    filter,
                    until,
                    limits,
                };
                let position = resolve_start(broker, channel, &start, search).await?;
                (ReadFrom::Position(position), position.to_string())
            }
        };
        Ok(Self {
            from,
            shown,
            is_unreadable: matches!(start, StartAt::Resume(Err(_))),
        })
    }

    fn gap(&self, channel: &Channel, page: &Page) -> Option<Gap> {
        let (reason, lost) = match page.start {
            broker::Continuity::Gap { reason, lost, .. } => (reason, lost),
            broker::Continuity::Contiguous if self.is_unreadable => (GapReason::Unknown, None),
            broker::Continuity::Contiguous => return None,
        };
        let oldest = page.events.first().map(|event| event.id);
        Some(Gap {
            channel: channel.clone(),
            after: self.shown.clone(),
            oldest,
            reason,
            lost,
        })
    }
}

fn wants_lines(request: &HttpRequest) -> bool {
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept: &HeaderValue| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("ndjson") || accept.contains("jsonl"))
}

async fn read(
    state: &AppState,
    channel: Channel,
    claim: &Claim,
    until: Option<EventId>,
    filter: &Filter,
    limit: usize,
) -> Result<History, ApiError> {
    let mut from = claim.from;
    let mut history = History {
        channel,
        gap: None,
        events: Vec::new(),
        next: String::new(),
        more: true,
    };
    let (mut bytes, mut looked_through) = (0, 0);
    while history.more
        && count(&history) < limit
        && bytes < BYTES_MAX
        && looked_through < LOOKED_THROUGH_MAX
    {
        let wanted = limit - count(&history);
        let events_max = if filter.is_all() {
            wanted
        } else {
            wanted.max(LOOKED_THROUGH_AT_ONCE)
        };
        let limits = PageLimits {
            events_max,
            bytes_max: BYTES_MAX - bytes,
        };
        let mut page = state
            .hub
            .broker()
            .read(&history.channel, from, limits)
            .await?;
        if history.next.is_empty() {
            history.gap = claim.gap(&history.channel, &page);
        } else if page.start != broker::Continuity::Contiguous {
            // Trimmed under our hands: whoever reads on from here is told of the gap.
            break;
        }
        let mut end = page.end(from);
        if let Some(until) = until
            && let Some(beyond) = page.events.iter().position(|event| !event.is_within(until))
        {
            // Before the first event that is not wanted: the place to read on, if ever more is.
            end = Position::At(page.events[beyond].id);
            page.events.truncate(beyond);
            page.more = false;
        }
        bytes += page.events.iter().map(Stored::size).sum::<usize>();
        looked_through += page.events.len();
        let passes = |event: &Stored| filter.passes(&event.kind);
        let mut passing = page
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| !event.is_gap() && passes(event));
        if let Some((last, event)) = passing.nth(wanted - 1)
            && last + 1 < page.events.len()
        {
            end = Position::After(event.id);
            page.events.truncate(last + 1);
            page.more = true;
        }
        // What the gap says already is not said again by its record.
        let told = history
            .gap
            .as_ref()
            .and_then(|gap| gap.lost)
            .map(|lost| lost.before);
        let lines = page
            .events
            .iter()
            .filter(|event| told != Some(event.id) && passes(event))
            .map(line);
        history.events.extend(lines);
        history.more = page.more;
        history.next = end.to_string();
        from = ReadFrom::Position(end);
    }
    Ok(history)
}

/// A loss that reaches to the end or below is told by it, wherever its record is in the log.
async fn add_unreported(
    state: &AppState,
    claim: &Claim,
    bound: EventId,
    history: &mut History,
) -> Result<(), ApiError> {
    if history.more {
        return Ok(());
    }
    let loss = state
        .hub
        .broker()
        .loss_spanning(&history.channel, bound)
        .await?;
    let settlement = Settlement {
        last: EventId::ZERO,
        loss,
    };
    let position = match claim.from {
        ReadFrom::Position(position) => position,
        ReadFrom::Time(ms) => Position::After(EventId::new(ms, 0).before()),
        ReadFrom::Oldest => Position::After(EventId::ZERO),
    };
    let told_first = history
        .gap
        .as_ref()
        .and_then(|gap| gap.lost)
        .map(|lost| lost.before);
    if let (Some(id), Some(gap)) = (settlement.unreported(position, bound), &settlement.loss)
        && told_first != Some(id)
        && !history
            .events
            .iter()
            .any(|event| event.event == GAP && event.id == id.to_string())
    {
        history.events.push(HistoryEvent {
            id: id.to_string(),
            event: GAP.to_owned(),
            data: serde_json::to_string(gap).expect("a gap has only strings"),
            time: time_text(id.ms),
        });
    }
    Ok(())
}

/// How many events there are, without the records of gaps between them.
fn count(history: &History) -> usize {
    history
        .events
        .iter()
        .filter(|event| event.event != GAP)
        .count()
}

fn line(event: &Stored) -> HistoryEvent {
    HistoryEvent {
        id: event.id.to_string(),
        event: event.kind.to_string(),
        data: event.data.to_string(),
        time: time_text(event.id.ms),
    }
}

/// A gap as the first line. It cannot be posted back, so that a hole is never copied in silence.
fn gap_line(gap: &Gap, next: &str) -> HistoryEvent {
    HistoryEvent {
        id: gap.oldest.map_or_else(
            || next.to_owned(),
            |oldest| Position::At(oldest).to_string(),
        ),
        event: GAP.to_owned(),
        data: serde_json::to_string(gap).expect("a gap has only strings"),
        time: gap
            .oldest
            .map(|oldest| time_text(oldest.ms))
            .unwrap_or_default(),
    }
}
