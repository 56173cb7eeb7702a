//! `POST /admin/revocations`: makes credentials invalid before they expire.
//!
//! The response is sent when the revocation is durable and in effect on this node. Other nodes
//! follow within a second, and end the streams that were opened with the credential.

use std::time::{Duration, SystemTime};

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use serde::Deserialize;
use serde_json::json;
use sse_proto::units::parse_positive_duration;

use super::permission::check_permission;
use crate::{
    access::{
        ServerRight, digest, is_credential_text, revocations::Revocation, to_hex, token_facts,
    },
    broker::revocations::{NEVER, RevocationChange, StoredRevocation},
    epoch::milliseconds,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::{json_body::read_json, query::Params},
        revocation_feed::read_now,
        state::AppState,
    },
};

/// Longest text in a revocation.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What is added to the life of a token, because clocks differ.
const LEEWAY: Duration = Duration::from_mins(1);

/// The clock of an issuer may be ahead by this time, so a token that it issued before the revocation
/// may state a later time.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(30);

/// The body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationRequest {
    iss: Option<String>,
    jti: Option<String>,
    sub: Option<String>,
    key: Option<String>,
    token: Option<String>,
    /// How long the revocation is stored; for ever if it is not given.
    ttl: Option<String>,
}

/// Stores a revocation.
pub(crate) async fn revoke(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let example = r#"{"key":"billing"}"#;
    let asked: RevocationRequest = read_json(&request, payload, &state, example).await?;
    let caller = caller.after_wait()?;
    check_permission(&request, &state, &caller, ServerRight::Admin)?;
    let now = SystemTime::now();
    let until_ms = asked.until_ms(now)?;
    let revocation = asked.into_revocation(now)?;
    caller.note_target(|| revocation.to_text());
    // Another revocation of the same credential never ends an earlier one.
    let known = state.access.revocations();
    let until_ms = until_ms.max(known.until_ms(&revocation).unwrap_or(0));
    let entry = StoredRevocation {
        text: revocation.to_text(),
        until_ms,
    };
    let broker = state.hub.broker();
    let change = RevocationChange {
        add: vec![entry],
        remove: Vec::new(),
    };
    broker.change_revocations(change).await?;
    read_now(broker, state.access.revocations()).await?;
    Ok(HttpResponse::Ok().json(json!({ "revoked": revocation })))
}

impl RevocationRequest {
    fn into_revocation(self, now: SystemTime) -> ApiResult<Revocation> {
        match (self.iss, self.jti, self.sub, self.key, self.token) {
            (Some(iss), Some(jti), None, None, None) => Ok(Revocation::Token {
                iss: checked(iss)?,
                jti: checked(jti)?,
            }),
            (Some(iss), None, Some(sub), None, None) => Ok(Revocation::Subject {
                iss: checked(iss)?,
                sub: checked(sub)?,
                before: milliseconds(now + CLOCK_DIFFERENCE_MAX),
            }),
            (None, None, None, Some(key), None) => Ok(Revocation::Key { key: checked(key)? }),
            (None, None, None, None, Some(token)) => Ok(Revocation::Text {
                digest: to_hex(&digest(credential_text(&token)?)),
            }),
            _ => Err(ApiError::InvalidRequest(
                "name exactly one of {iss, jti}, {iss, sub}, {key} or {token}".to_owned(),
            )),
        }
    }

    /// Returns when the revocation may be forgotten. That of a token ends with the token.
    fn until_ms(&self, now: SystemTime) -> ApiResult<u64> {
        if let Some(ttl) = &self.ttl {
            let ttl = parse_positive_duration(ttl)
                .map_err(|why| ApiError::InvalidRequest(format!("ttl: {why}")))?;
            return Ok(now.checked_add(ttl).map_or(NEVER, milliseconds));
        }
        let token = self.token.as_deref().map(str::trim);
        let expires = token.and_then(token_facts::expires);
        let end = expires.and_then(|expires| expires.checked_add(LEEWAY));
        Ok(end.map_or(NEVER, milliseconds))
    }
}

fn checked(text: String) -> ApiResult<String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        let why = format!("a text has 1 to {TEXT_BYTES_MAX} bytes");
        return Err(ApiError::InvalidRequest(why));
    }
    Ok(text)
}

/// Returns the text of a credential, which is compared byte by byte. Another text would revoke
/// nothing.
fn credential_text(text: &str) -> ApiResult<&str> {
    let text = text.trim();
    if text.len() <= TEXT_BYTES_MAX && is_credential_text(text) {
        return Ok(text);
    }
    let why = "token is an API key or a JWT, without Bearer before it";
    Err(ApiError::InvalidRequest(why.to_owned()))
}
