//! Who may send a request, and which pages may read the response (CORS).

mod allow_origin;
pub(crate) mod caller;
pub(crate) mod caller_quota;
pub(crate) mod challenge;
pub(crate) mod channel_query;
pub(crate) mod client_address;
pub(crate) mod cors;
pub(crate) mod credential;
mod forwarded;
pub(crate) mod host;
pub(crate) mod origin_pattern;
pub(crate) mod origins;
mod preflight;
pub(crate) mod public_url;
pub(crate) mod set_cookie;
