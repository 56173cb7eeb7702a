//! `POST /tokens`: creates a ticket, with which a browser can read some channels for some time.
//!
//! An `EventSource` sends no headers, so the ticket goes into the URL or into a cookie. The caller
//! must present its own credential in the header: a page that has only a ticket or a cookie cannot
//! create more.

use std::time::{Duration, SystemTime};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::Payload,
};
use actix_web_lab::extract::LocalData;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::json;
use sse_proto::units::parse_positive_duration;

use crate::{
    access::{Access, IssuedTicket, Pattern, RejectionWord, TicketError, TicketRequest},
    http::{
        access::{caller::Caller, set_cookie::set_cookie},
        error::{ApiError, ApiResult},
        request::{json_body::read_json, query::Params},
        state::AppState,
    },
};

/// Life of a ticket, unless the request says otherwise.
const TTL_DEFAULT: Duration = Duration::from_mins(10);

/// The body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    subscribe: Vec<String>,
    ttl: Option<String>,
    sub: Option<String>,
    /// Sets a cookie instead of returning the ticket.
    #[serde(default)]
    cookie: bool,
}

/// Creates a ticket.
pub(crate) async fn create(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    let access = state.access.access();
    check_creator(&caller, access)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let example = r#"{"subscribe":["users.42"],"ttl":"10m"}"#;
    let asked: TokenRequest = read_json(&request, payload, &state, example).await?;
    let cookie = asked.cookie;
    let wanted = asked.into_ticket()?;
    let caller = caller.after_wait()?;
    let sub = wanted.sub.clone();
    let ticket = access.issue_ticket(caller.identity(), wanted)?;
    caller.note_target(|| json!({ "jti": ticket.jti, "sub": sub }).to_string());
    let mut response = HttpResponse::Ok();
    if cookie {
        response.insert_header((header::SET_COOKIE, cookie_of(&request, &state, &ticket)?));
    }
    Ok(response.json(describe(&ticket, !cookie)))
}

/// Rejects a caller that can create no ticket at all, before the body is read.
fn check_creator(caller: &Caller, access: &Access) -> ApiResult<()> {
    caller.note_action("create_ticket", &[]);
    if !access.has_rules() {
        return Err(ApiError::NoSigningKey);
    }
    if !caller.has_header() {
        return Err(ApiError::Unauthorized(None));
    }
    Ok(access.check_creator(caller.identity())?)
}

fn describe(ticket: &IssuedTicket, with_token: bool) -> serde_json::Value {
    let expires = DateTime::<Utc>::from(ticket.expires);
    let mut description = json!({
        "iss": &*ticket.issuer,
        "jti": ticket.jti,
        "expires": expires.to_rfc3339_opts(SecondsFormat::Secs, true),
    });
    if with_token {
        description["token"] = ticket.token.expose().into();
    }
    description
}

fn cookie_of(
    request: &HttpRequest,
    state: &AppState,
    ticket: &IssuedTicket,
) -> ApiResult<HeaderValue> {
    let rules = state.access.access().rules();
    let left = ticket
        .expires
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    set_cookie(request, &rules, ticket.token.expose(), left)
        .ok_or_else(|| ApiError::InvalidRequest("the cookie cannot be set".to_owned()))
}

impl TokenRequest {
    fn into_ticket(self) -> ApiResult<TicketRequest> {
        let patterns = self.subscribe.iter().map(|text| {
            text.parse::<Pattern>()
                .map_err(|why| ApiError::InvalidRequest(format!("subscribe: {why}")))
        });
        let ttl = self.ttl.as_deref().map(|ttl| {
            parse_positive_duration(ttl)
                .map_err(|why| ApiError::InvalidRequest(format!("ttl: {why}")))
        });
        Ok(TicketRequest {
            subscribe: patterns.collect::<ApiResult<_>>()?,
            ttl: ttl.transpose()?.unwrap_or(TTL_DEFAULT),
            sub: self.sub,
        })
    }
}

impl From<TicketError> for ApiError {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::NoSigningKey => Self::NoSigningKey,
            TicketError::NotAllowed(patterns) => Self::InsufficientScope {
                right: "subscribe",
                channels: patterns.iter().map(ToString::to_string).collect(),
            },
            TicketError::Ended => Self::Unauthorized(Some(RejectionWord::Expired)),
            TicketError::Creator => Self::InsufficientScope {
                right: "create tickets",
                channels: Vec::new(),
            },
            error => Self::InvalidRequest(error.to_string()),
        }
    }
}
