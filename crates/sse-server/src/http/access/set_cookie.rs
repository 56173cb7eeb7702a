//! The cookie with a ticket (RFC 6265).
//!
//! Scripts cannot read it, and browsers send it to this server only. With the prefix `__Host-` in
//! its name a browser accepts it only over https and for no other host. `SameSite=Lax` keeps it
//! away from requests of other sites, unless a setting allows pages of other sites that embed this
//! server; it is `Partitioned` then.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderValue};

use super::public_url::PublicUrl;
use crate::{
    access::AccessRules,
    http::{request::listen_address::listen_address, state::public_urls},
};

/// Returns the value of `Set-Cookie`; `None` if the token has characters that no cookie may have.
pub(crate) fn set_cookie(
    request: &HttpRequest,
    rules: &AccessRules,
    token: &str,
    life: Duration,
) -> Option<HeaderValue> {
    let name = rules.cookie()?;
    // Browsers reject `Secure` cookies from http, which only a test on this machine uses. A proxy on
    // this machine may serve https.
    let is_served_by_https = || public_urls(request).iter().any(PublicUrl::is_https);
    let is_local = listen_address(request).is_local();
    let is_secure = name.starts_with("__") || !is_local || is_served_by_https();
    let same_site = if rules.cookie_is_cross_site() {
        "SameSite=None; Partitioned"
    } else {
        "SameSite=Lax"
    };
    let secure = if is_secure { "; Secure" } else { "" };
    let seconds = life.as_secs();
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}{secure}; HttpOnly; {same_site}");
    HeaderValue::try_from(text).ok()
}
