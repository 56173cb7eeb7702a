//! Who may send a request, and which pages may read the response (CORS).

mod allow_origin;
pub(crate) mod caller;
pub(crate) mod caller_quota;
pub(crate) mod client_address;
pub(crate) mod cors;
mod forwarded;
pub(crate) mod host;
pub(crate) mod origin_pattern;
pub(crate) mod origins;
mod preflight;
pub(crate) mod public_url;
