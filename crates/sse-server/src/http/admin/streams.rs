//! The open streams and streaming publishes of this node: a list, and closing them.
//!
//! The list is made in several steps while streams open and close, so it is not a snapshot. A page of
//! it can have as many bytes as one of history, so both use the same budget. A stream has an id, an
//! address and a principal only if there are access rules; without them a stream keeps nothing of its
//! caller. A streaming publish always has an id.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use actix_web::{HttpRequest, HttpResponse, web::Path};
use actix_web_lab::extract::LocalData;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sse_proto::Channel;

use super::permission::check_permission;
use crate::{
    access::{NamedCaller, ServerRight},
    budget::ClientNet,
    epoch::milliseconds,
    fanout::{
        publish_list::OpenPublish,
        stream_caller::StreamCaller,
        streams::{LiveList, StreamInfo},
    },
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
const JSON: &str = "application/json";

/// What is listed.
enum Listed<'l> {
    Stream(&'l StreamInfo),
    Publish(Arc<OpenPublish>),
}

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
    let permit = state
        .history_budget
        .acquire(ClientNet::of_request(&request));
    let permit = permit.await?;
    let live = state.streams.list().await;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    let page = page_of(list_all(&state, &live), skip, limit).to_string();
    // Clients may read slowly.
    drop(live);
    let body = permit.body(page.into_bytes()).await?;
    Ok(HttpResponse::Ok().content_type(JSON).body(body))
}

/// Returns a page of the list, the slowest streams first.
fn page_of(mut streams: Vec<Listed<'_>>, skip: usize, limit: usize) -> Value {
    let now_ms = milliseconds(SystemTime::now());
    streams.sort_by_key(|listed| std::cmp::Reverse(listed.lag_ms(now_ms)));
    let page = streams.iter().skip(skip).take(limit);
    let page: Vec<Value> = page.map(|listed| listed.describe(now_ms)).collect();
    json!({ "total": streams.len(), "streams": page })
}

fn list_all<'l>(state: &AppState, live: &'l LiveList) -> Vec<Listed<'l>> {
    let publishes = state.streams.publishes.publishes();
    let publishes = publishes.into_iter().map(Listed::Publish);
    let streams = live.streams.iter().map(Listed::Stream);
    streams.chain(publishes).collect()
}

impl Listed<'_> {
    /// How far it is behind; zero for a publish.
    fn lag_ms(&self, now_ms: u64) -> u64 {
        match self {
            Self::Stream(stream) => lag_ms(stream, now_ms),
            Self::Publish(_) => 0,
        }
    }

    fn caller(&self) -> Option<&StreamCaller> {
        match self {
            Self::Stream(stream) => stream.caller.as_deref(),
            Self::Publish(publish) => publish.caller(),
        }
    }

    /// The id by which it can be closed.
    fn id(&self) -> Option<u64> {
        match self {
            Self::Stream(stream) => stream.caller.as_ref().map(|caller| caller.id()),
            Self::Publish(publish) => Some(publish.id()),
        }
    }

    /// Closes it; returns `false` if that is not possible.
    fn close(&self) -> bool {
        match self {
            Self::Stream(stream) => match &stream.caller {
                Some(caller) => caller.close(),
                None => return false,
            },
            Self::Publish(publish) => publish.close(),
        }
        true
    }

    fn describe(&self, now_ms: u64) -> Value {
        match self {
            Self::Stream(stream) => describe(stream, now_ms),
            Self::Publish(publish) => describe_publish(publish),
        }
    }
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
    let lag_ms = lag_ms(stream, now_ms);
    let mut description = json!({ "kind": "stream", "channels": channels, "lag_ms": lag_ms });
    if let Some(caller) = &stream.caller {
        description["id"] = format_id(caller.id()).into();
        description["address"] = to_json(caller.address());
        description["principal"] = caller.identity().principal().to_json();
        description["since"] = time_text(caller.opened()).into();
        description["bytes"] = caller.bytes().into();
    }
    description
}

fn describe_publish(publish: &OpenPublish) -> Value {
    let mut description = json!({
        "kind": "publish",
        "channels": [publish.channel().as_str()],
        "lag_ms": 0,
        "id": format_id(publish.id()),
        "address": to_json(publish.address()),
        "since": time_text(publish.opened()),
        "bytes": publish.bytes(),
    });
    if let Some(caller) = publish.caller() {
        description["principal"] = caller.identity().principal().to_json();
    }
    description
}

fn to_json(address: Option<IpAddr>) -> Value {
    address.map(|address| address.to_string()).into()
}

fn format_id(id: u64) -> String {
    format!("{id:016x}")
}

fn time_text(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `DELETE /admin/streams/{id}`: closes one stream or streaming publish.
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
    let closed = close_matching(&state, |listed| wanted.is_some() && listed.id() == wanted);
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
    let closed = close_matching(&state, |listed| {
        let caller = listed.caller();
        caller.is_some_and(|caller| owner.owns(&caller.identity()))
    });
    let closed = closed.await;
    Ok(HttpResponse::Ok().json(json!({ "closed": closed })))
}

async fn close_matching(state: &AppState, matches: impl Fn(&Listed<'_>) -> bool) -> usize {
    let live = state.streams.list().await;
    let listed = list_all(state, &live);
    let matching = listed.iter().filter(|listed| matches(listed));
    matching.filter(|listed| listed.close()).count()
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
