//! The header of a token.
//!
//! Nothing in it is trusted. `alg` must be what the key says, `kid` only selects a key of the
//! issuer, and keys or addresses of keys (`jwk`, `jku`, `x5c`, `x5u`) are never read. A header with
//! `crit` demands that its fields are understood, and none is (RFC 7515 §4.1.11).

use serde_json::{Map, Value};

use crate::access::RejectionWord;

/// The type of a ticket.
pub(crate) const TICKET_TYPE: &str = "sse-ticket+jwt";
/// The types of an issuer's token: JWT, and an access token of OAuth (RFC 9068).
const TOKEN_TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// What a token is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// A token of an issuer.
    Token,
    /// A ticket of this server.
    Ticket,
}

/// The part of a header that counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    pub(crate) token_type: TokenType,
}

impl Header {
    /// Reads a header.
    pub(crate) fn from_object(mut header: Map<String, Value>) -> Result<Self, RejectionWord> {
        if header.contains_key("crit") {
            return Err(RejectionWord::Critical);
        }
        let algorithm = take_text(&mut header, "alg")?.ok_or(RejectionWord::Malformed)?;
        let token_type = match take_text(&mut header, "typ")? {
            Some(text) => parse_type(&text)?,
            None => TokenType::Token,
        };
        Ok(Self {
            algorithm,
            key_id: take_text(&mut header, "kid")?,
            token_type,
        })
    }
}

/// A media type may be written in full, in any case (RFC 7515 §4.1.9).
fn parse_type(text: &str) -> Result<TokenType, RejectionWord> {
    let prefix = text.get(.."application/".len());
    let name = match prefix {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &text[prefix.len()..],
        _ => text,
    };
    if name.eq_ignore_ascii_case(TICKET_TYPE) {
        Ok(TokenType::Ticket)
    } else if TOKEN_TYPES
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
    {
        Ok(TokenType::Token)
    } else {
        Err(RejectionWord::Type)
    }
}

/// Returns a text; `None` if there is no such field.
fn take_text(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, RejectionWord> {
    match object.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(RejectionWord::Malformed),
        None => Ok(None),
    }
}
