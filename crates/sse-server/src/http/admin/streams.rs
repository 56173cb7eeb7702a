//! The open streams of this node: a list, and closing them.
//!
//! The list is made in several steps while streams open and close, so it is not a snapshot. A
//! stream has an id, an address and a principal only if there are access rules; without them a
//! stream keeps nothing of its caller.

use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web::Path};
use actix_web_lab::extract::LocalData;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sse_proto::Channel;

use super::permission::check_permission;
use crate::{
    access::{NamedCaller, ServerRight},
    epoch::milliseconds,
    fanout::streams::StreamInfo,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::query::Params,
        state::AppState,
    },
};

/// Streams per response, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Largest value of `skip`.
const SKIP_MAX: usize = 10_000_000;

/// `GET /admin/streams`: lists streams, the slowest first.
pub(crate) async fn list(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["limit", "skip"])?;
    let limit = params.number("limit", 1..=LIMIT_MAX)?;
    let skip = params.number("skip", 0..=SKIP_MAX)?.unwrap_or_default();
    let mut streams = state.streams.list().await.streams;
    let now_ms = milliseconds(SystemTime::now());
    streams.sort_by_key(|stream| std::cmp::Reverse(lag_ms(stream, now_ms)));
    let total = streams.len();
    let page = streams
        .iter()
        .skip(skip)
        .take(limit.unwrap_or(LIMIT_DEFAULT));
    let page: Vec<Value> = page.map(|stream| describe(stream, now_ms)).collect();
    Ok(HttpResponse::Ok().json(json!({ "total": total, "streams": page })))
}

/// How long ago the oldest event happened that the stream was not sent; zero at the tail.
pub(super) fn lag_ms(stream: &StreamInfo, now_ms: u64) -> u64 {
    if stream.is_behind_tail {
        now_ms.saturating_sub(stream.position_ms)
    } else {
        0
    }
}

pub(super) fn describe(stream: &StreamInfo, now_ms: u64) -> Value {
    let channels: Vec<&str> = stream.channels.iter().map(Channel::as_str).collect();
    let mut description = json!({ "channels": channels, "lag_ms": lag_ms(stream, now_ms) });
    if let Some(caller) = &stream.caller {
        let opened = DateTime::<Utc>::from(caller.opened());
        description["id"] = format_id(caller.id()).into();
        description["address"] = caller.address().map(|address| address.to_string()).into();
        description["principal"] = caller.identity().principal().to_json();
        description["since"] = opened.to_rfc3339_opts(SecondsFormat::Millis, true).into();
        description["bytes"] = caller.bytes().into();
    }
    description
}

fn format_id(id: u64) -> String {
    format!("{id:016x}")
}

/// `DELETE /admin/streams/{id}`: closes one stream.
pub(crate) async fn close_one(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
    id: Path<String>,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let wanted = u64::from_str_radix(&id, 16).ok();
    caller.note_target(|| id.to_string());
    let closed = close_matching(&state, |stream| {
        stream.caller.as_ref().map(|caller| caller.id()) == wanted && wanted.is_some()
    });
    match closed.await {
        0 => Err(ApiError::NoSuchStream),
        closed => Ok(HttpResponse::Ok().json(json!({ "closed": closed }))),
    }
}

/// `DELETE /admin/streams?key=`, `?iss=&sub=`: closes all streams of a caller.
pub(crate) async fn close_all(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["key", "iss", "sub"])?;
    let owner = named_caller(&params)?.ok_or_else(no_name)?;
    caller.note_target(|| request.query_string().to_owned());
    let closed = close_matching(&state, |stream| {
        let caller = stream.caller.as_ref();
        caller.is_some_and(|caller| owner.owns(&caller.identity()))
    });
    let closed = closed.await;
    Ok(HttpResponse::Ok().json(json!({ "closed": closed })))
}

async fn close_matching(state: &AppState, matches: impl Fn(&StreamInfo) -> bool) -> usize {
    let streams = state.streams.list().await.streams;
    let matching = streams.iter().filter(|stream| matches(stream));
    let callers = matching.filter_map(|stream| stream.caller.as_ref());
    callers.map(|caller| caller.close()).count()
}

/// Returns the caller that a request names by `key=`, or `iss=&sub=`; `None` if it names none.
pub(super) fn named_caller(params: &Params) -> ApiResult<Option<NamedCaller>> {
    let (key, iss, sub) = (params.one("key")?, params.one("iss")?, params.one("sub")?);
    match (key, iss, sub) {
        (None, None, None) => Ok(None),
        (Some(key), None, None) => Ok(Some(NamedCaller::Key(key.to_owned()))),
        (None, Some(iss), Some(sub)) => Ok(Some(NamedCaller::Subject {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
        })),
        _ => Err(no_name()),
    }
}

fn no_name() -> ApiError {
    ApiError::invalid_parameter("key", "must be given alone, or iss and sub instead of it")
}
