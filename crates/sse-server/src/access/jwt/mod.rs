//! Tokens (JWT, RFC 7519) as text: split, decoded and checked, but not yet believed.
//!
//! | file | contents |
//! |---|---|
//! | `header` | which key and which type a token claims to have |
//! | `claims` | who it is about, when and where it is valid, what it grants |
//! | `strict_json` | JSON in which no name occurs twice |
//!
//! An [`UnverifiedToken`] is what a client sent. Only `keys` decides whether its signature is that
//! of a key of its issuer, with the algorithm that belongs to the key.

pub(crate) mod claims;
pub(crate) mod header;
pub(crate) mod strict_json;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use self::{claims::Claims, header::Header, strict_json::parse_object};
use super::RejectionWord;

/// A longer token is rejected. Browsers send at most about as much in a cookie or a URL.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A token whose signature is not checked yet.
#[derive(Debug)]
pub(crate) struct UnverifiedToken<'t> {
    pub(crate) header: Header,
    pub(crate) claims: Claims,
    /// What was signed.
    pub(crate) message: &'t str,
    /// The signature, in Base64.
    pub(crate) signature: &'t str,
}

impl<'t> UnverifiedToken<'t> {
    /// Splits and decodes a token.
    pub(crate) fn parse(text: &'t str) -> Result<Self, RejectionWord> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(RejectionWord::Malformed);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(RejectionWord::Malformed)?;
        // Another dot in the header or the payload is no character of Base64.
        let (header, payload) = message.split_once('.').ok_or(RejectionWord::Malformed)?;
        Ok(Self {
            header: Header::from_object(decode_object(header)?)?,
            claims: Claims::from_object(decode_object(payload)?)?,
            message,
            signature,
        })
    }
}

fn decode_object(text: &str) -> Result<Map<String, Value>, RejectionWord> {
    let json = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| RejectionWord::Malformed)?;
    parse_object(&json).ok_or(RejectionWord::Malformed)
}
