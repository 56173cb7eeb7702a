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
    access::{Creator, Identity, Principal, ServerRight},
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
    let live = state.streams.list().await;
    let now_ms = milliseconds(SystemTime::now());
    let mut streams: Vec<&StreamInfo> = live.streams.iter().collect();
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
fn lag_ms(stream: &StreamInfo, now_ms: u64) -> u64 {
    if stream.is_behind_tail {
        now_ms.saturating_sub(stream.position_ms)
    } else {
        0
    }
}

fn describe(stream: &StreamInfo, now_ms: u64) -> Value {
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
    let owner = Owner::from_params(&params)?;
    caller.note_target(|| request.query_string().to_owned());
    let closed = close_matching(&state, |stream| {
        let caller = stream.caller.as_ref();
        caller.is_some_and(|caller| owner.opened(&caller.identity()))
    });
    let closed = closed.await;
    Ok(HttpResponse::Ok().json(json!({ "closed": closed })))
}

async fn close_matching(state: &AppState, matches: impl Fn(&StreamInfo) -> bool) -> usize {
    let live = state.streams.list().await;
    let matching = live.streams.iter().filter(|stream| matches(stream));
    let callers = matching.filter_map(|stream| stream.caller.as_ref());
    callers.map(|caller| caller.close()).count()
}

/// Whose streams are closed.
enum Owner {
    Key(String),
    Subject { iss: String, sub: String },
}

impl Owner {
    fn from_params(params: &Params) -> ApiResult<Self> {
        let (key, iss, sub) = (params.one("key")?, params.one("iss")?, params.one("sub")?);
        match (key, iss, sub) {
            (Some(key), None, None) => Ok(Self::Key(key.to_owned())),
            (None, Some(iss), Some(sub)) => Ok(Self::Subject {
                iss: iss.to_owned(),
                sub: sub.to_owned(),
            }),
            _ => Err(ApiError::invalid_parameter(
                "key",
                "must be given alone, or iss and sub instead of it",
            )),
        }
    }

    /// Whether the owner has opened a stream of `identity`, perhaps with a ticket.
    fn opened(&self, identity: &Identity) -> bool {
        match identity.principal() {
            Principal::Anonymous => false,
            Principal::Key { name } => self.is_key(name),
            Principal::Subject { iss, sub } => self.is_subject(iss, sub),
            Principal::Ticket { by, sub } => {
                let issuer = identity.issuer();
                self.is_creator(by) || issuer.is_some_and(|iss| self.is_subject(iss, sub))
            }
        }
    }

    fn is_key(&self, name: &str) -> bool {
        matches!(self, Self::Key(key) if key == name)
    }

    fn is_subject(&self, of: &str, subject: &str) -> bool {
        matches!(self, Self::Subject { iss, sub } if iss == of && sub == subject)
    }

    fn is_creator(&self, creator: &Creator) -> bool {
        match creator {
            Creator::Key(name) => self.is_key(name),
            Creator::Subject { iss, sub } => self.is_subject(iss, sub),
            Creator::Operator => false,
        }
    }
}
