//! What a token states about itself, without any proof.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Returns the time at which a JWT says that it expires; `None` if the text is no JWT or has no
/// such time.
#[must_use]
pub fn expires(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let claims = BASE64_URL_SAFE_NO_PAD.decode(parts.nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jwt_with_a_time_expires() {
        let token = |claims: &str| format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(
            expires(&token(r#"{"exp":1700000000,"sub":"a"}"#)),
            at(1_700_000_000)
        );
        for bad in [
            r#"{"sub":"a"}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":"1"}"#,
            "x",
        ] {
            assert_eq!(expires(&token(bad)), None, "{bad}");
        }
        assert_eq!(expires("sse_id_secret"), None);
    }
}
