//! The response to a missing, rejected or insufficient credential (RFC 6750, section 3).
//!
//! The texts contain nothing of the credential, and no reason beyond one word of a fixed list.

use actix_web::http::header::HeaderValue;

use crate::{access::RejectionWord, http::error::ApiError};

/// Channels that a message names.
const NAMES_MAX: usize = 32;

/// Returns the value of `WWW-Authenticate`; `None` if a credential would not help.
pub(crate) fn challenge(error: &ApiError) -> Option<HeaderValue> {
    match error {
        ApiError::Unauthorized(None) => Some(HeaderValue::from_static("Bearer")),
        ApiError::Unauthorized(Some(word)) => {
            let text = format!(
                "Bearer error=\"invalid_token\", error_description=\"{}\"",
                word.as_str()
            );
            HeaderValue::try_from(text).ok()
        }
        ApiError::InsufficientScope { .. } => Some(HeaderValue::from_static(
            "Bearer error=\"insufficient_scope\"",
        )),
        _ => None,
    }
}

/// Returns the message of a 401.
pub(crate) fn unauthorized_message(rejected: Option<RejectionWord>) -> String {
    match rejected {
        Some(word) => format!("the credential was rejected: {}", word.as_str()),
        None => "this request needs a credential: send an API key or a token in the header \
                 Authorization: Bearer"
            .to_owned(),
    }
}

/// Returns the message of a 403, which names the right and the channels that lack it.
pub(crate) fn insufficient_message(right: &str, channels: &[String]) -> String {
    match channels {
        [] => format!("the credential does not grant the right {right:?}"),
        [name] => format!("the credential does not grant {right:?} for the channel {name}"),
        names if names.len() > NAMES_MAX => format!(
            "the credential does not grant {right:?} for {} channels: {}, …",
            names.len(),
            names[..NAMES_MAX].join(", ")
        ),
        names => format!(
            "the credential does not grant {right:?} for the channels {}",
            names.join(", ")
        ),
    }
}
