//! `POST /admin/access`: what a credential grants, or why it is rejected.
//!
//! The credential is in the body, so that it is in no log, and the response does not contain it.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::permission::check_permission;
use crate::{
    access::{CredentialError, CredentialSource, Identity, Pattern, Right, ServerRight},
    budget::ClientNet,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::{json_body::read_json, query::Params},
        state::AppState,
    },
};

/// The body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    token: String,
}

/// Checks a credential as if it were in the header of a request.
pub(crate) async fn check(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    Params::parse_any(request.query_string())?.check_known(&[])?;
    let asked: CheckRequest = read_json(&request, payload, &state, r#"{"token":"…"}"#).await?;
    if !state.access.access().has_rules() {
        let why = "there are no access rules, so every caller may do everything";
        return Err(ApiError::InvalidRequest(why.to_owned()));
    }
    let token = asked.token.trim();
    let client = ClientNet::of_request(&request);
    let identified = state
        .access
        .identify(token, CredentialSource::Header, client);
    let verdict = match identified.await {
        Ok(identity) => describe(&identity),
        Err(CredentialError::Rejected(word)) => json!({
            "accepted": false,
            "reason": word.as_str(),
            "meaning": word.meaning(),
        }),
        Err(CredentialError::Unavailable) => return Err(ApiError::AccessUnavailable),
    };
    Ok(HttpResponse::Ok().json(verdict))
}

fn describe(identity: &Identity) -> Value {
    let rights = identity.rights();
    let patterns = |right| {
        let patterns = rights.patterns(right).iter().map(Pattern::as_str);
        patterns.collect::<Vec<_>>()
    };
    let expires = identity.expires().map(|expires| {
        let expires = DateTime::<Utc>::from(expires);
        expires.to_rfc3339_opts(SecondsFormat::Secs, true)
    });
    json!({
        "accepted": true,
        "caller": identity.principal().to_string(),
        "publish": patterns(Right::Publish),
        "subscribe": patterns(Right::Subscribe),
        "manage": patterns(Right::Manage),
        "observe": rights.permits_server(ServerRight::Observe),
        "admin": rights.permits_server(ServerRight::Admin),
        "expires": expires,
    })
}
