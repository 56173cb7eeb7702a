//! What a ticket contains.
//!
//! ```json
//! {"iss": "https://hub.example", "aud": "https://hub.example", "iat": 1800000000, "exp": 1800000600,
//!  "jti": "5f0c…", "sub": "42", "subscribe": ["users.42"], "by": {"key": "billing"}}
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PATTERNS_MAX;
use crate::access::{
    Pattern, RejectionWord,
    facts::{TicketCreator, TicketGrant},
    jwt::claims::Claims,
};

/// The claims of a ticket.
#[derive(Debug, Serialize)]
pub(super) struct TicketClaims {
    pub(super) iss: Arc<str>,
    pub(super) aud: Arc<str>,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) jti: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    pub(super) subscribe: Vec<Pattern>,
    pub(super) by: TicketCreator,
}

/// The claims that only tickets have.
#[derive(Deserialize)]
struct GrantClaims {
    subscribe: Vec<Pattern>,
    by: TicketCreator,
}

/// Reads what a ticket lists and who created it.
pub(crate) fn read_ticket_grant(claims: &Claims) -> Result<TicketGrant, RejectionWord> {
    let read: GrantClaims = serde_json::from_value(Value::Object(claims.all.clone()))
        .map_err(|_| RejectionWord::Malformed)?;
    if read.subscribe.len() > PATTERNS_MAX {
        return Err(RejectionWord::Malformed);
    }
    Ok(TicketGrant {
        subscribe: read.subscribe,
        by: read.by,
    })
}
