//! Secrets in the query of a request.
//!
//! The server itself reads no secret from a query. A client or a proxy may still send one, so the
//! value of every parameter whose name looks like that of a secret is replaced.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Text that replaces a secret.
const REDACTED: &str = "***";
/// Parts of the names of parameters with a secret, in any case: `access_token`, `X-Api-Key`.
const SECRET_NAMES: [&str; 12] = [
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "api_key",
    "api-key",
    "apikey",
    "jwt",
    "credential",
    "signature",
    "session",
];

/// Replaces the secrets in the query of `target`.
pub(super) fn redact(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    if !query.split('&').any(|pair| secret_name(pair).is_some()) {
        return Cow::Borrowed(target);
    }
    let mut redacted = path.to_owned();
    for (nth, pair) in query.split('&').enumerate() {
        redacted.push(if nth == 0 { '?' } else { '&' });
        match secret_name(pair) {
            Some(name) => redacted.extend([name, "=", REDACTED]),
            None => redacted.push_str(pair),
        }
    }
    Cow::Owned(redacted)
}

/// Returns the name of a parameter that has a secret.
fn secret_name(pair: &str) -> Option<&str> {
    let (name, _) = pair.split_once('=')?;
    let decoded = Cow::from(percent_decode_str(name));
    let has_part = |part: &str| {
        let mut windows = decoded.windows(part.len());
        windows.any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
    };
    SECRET_NAMES.into_iter().any(has_part).then_some(name)
}
