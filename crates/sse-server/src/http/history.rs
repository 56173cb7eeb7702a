//! `GET /events`: the same log as plain JSON, or as lines that can be posted back.

use actix_web::{
    Either, HttpRequest, HttpResponse, Responder,
    http::header::{self, HeaderValue},
};
use actix_web_lab::{extract::LocalData, respond::NdJson};
use chrono::{DateTime, SecondsFormat};
use futures::stream;
use sse_proto::{
    Channel, Cursor, EventId, Position,
    api::{Gap, GapReason, History, HistoryEvent},
};

use super::{Edge, error::ApiError, query::Params, subscribe::last_event_id};
use crate::broker::{self, From, PageLimits, Stored};

const EVENTS_DEFAULT: usize = 1000;
const EVENTS_MAX: usize = 10_000;
/// An answer ends after this many bytes of data, or one event; `more` says so.
const BYTES_MAX: usize = 4 << 20;

/// Reads history, oldest first.
pub(super) async fn events(request: HttpRequest, edge: LocalData<Edge>) -> Result<impl Responder, ApiError> {
    let params = Params::parse(request.query_string(), &["channel", "last_event_id", "lastEventId", "limit"])?;
    let channel = params.channel()?;
    let cursor = last_event_id(&request, &params)?;
    let history = read(&edge, channel, cursor, limit(&params)?).await?;
    edge.metrics.history_read(history.events.len());
    if wants_lines(&request) {
        let gap = history.gap.iter().map(|gap| gap_line(gap, &history.next)).collect::<Vec<_>>();
        let lines = gap.into_iter().chain(history.events);
        return Ok(Either::Left(
            NdJson::new_infallible(stream::iter(lines))
                .into_responder()
                .customize()
                .insert_header((header::CACHE_CONTROL, "no-store")),
        ));
    }
    Ok(Either::Right(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(history)))
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let Some(text) = params.one("limit")? else { return Ok(EVENTS_DEFAULT) };
    match text.parse() {
        Ok(limit) if (1..=EVENTS_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::InvalidParameter { name: "limit", why: format!("is a number from 1 to {EVENTS_MAX}") }),
    }
}

fn wants_lines(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept: &HeaderValue| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("ndjson") || accept.contains("jsonl"))
}

async fn read(edge: &Edge, channel: Channel, cursor: Option<String>, limit: usize) -> Result<History, ApiError> {
    let position = cursor.as_deref().and_then(|text| text.parse::<Cursor>().ok()?.position_in(&channel));
    let mut from = position.map_or(From::Oldest, From::Position);
    let mut history = History { channel, gap: None, events: Vec::new(), next: String::new(), more: true };
    let mut bytes = 0;
    while history.more && history.events.len() < limit && bytes < BYTES_MAX {
        let limits = PageLimits { events_max: limit - history.events.len(), bytes_max: BYTES_MAX - bytes };
        let page = edge.hub.broker().read(&history.channel, from, limits).await?;
        if history.next.is_empty() {
            let oldest = page.events.first().map(|event| event.id);
            let reason = match (page.start, &cursor) {
                (broker::Start::Gap { reason, .. }, _) => Some(reason),
                (broker::Start::Contiguous, Some(_)) if position.is_none() => Some(GapReason::Unknown),
                _ => None,
            };
            let gap = |reason| Gap {
                channel: history.channel.clone(),
                after: cursor.as_deref().unwrap_or_default().chars().take(64).collect(),
                oldest,
                reason,
            };
            history.gap = reason.map(gap);
        }
        if !history.next.is_empty() && page.start != broker::Start::Contiguous {
            // Trimmed under our hands: whoever reads on from here is told of the gap.
            break;
        }
        let end = page.end(from);
        bytes += page.events.iter().map(Stored::size).sum::<usize>();
        history.events.extend(page.events.iter().map(line));
        history.more = page.more;
        history.next = end.to_string();
        from = From::Position(end);
    }
    Ok(history)
}

fn line(event: &Stored) -> HistoryEvent {
    HistoryEvent {
        id: event.id.to_string(),
        event: event.kind.to_string(),
        data: event.data.to_string(),
        time: time(event.id),
    }
}

/// A gap as the first line. It cannot be posted back, so that a hole is never copied in silence.
fn gap_line(gap: &Gap, next: &str) -> HistoryEvent {
    HistoryEvent {
        id: gap.oldest.map_or_else(|| next.to_owned(), |oldest| Position::At(oldest).to_string()),
        event: "gap".to_owned(),
        data: serde_json::to_string(gap).expect("a gap has only strings"),
        time: gap.oldest.map(time).unwrap_or_default(),
    }
}

/// When an event was stored, by the log's clock.
fn time(id: EventId) -> String {
    let time = i64::try_from(id.ms).ok().and_then(DateTime::from_timestamp_millis);
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}
