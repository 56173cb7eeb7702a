//! What a request contains: its query, its body, its key, and the parameters of a reader.

pub(crate) mod batch_body;
mod batch_line;
pub(crate) mod body;
pub(crate) mod body_memory;
pub(crate) mod channel_settings;
pub(crate) mod condition;
pub(crate) mod content_type;
pub(crate) mod curl_line;
pub(crate) mod event_filter;
pub(crate) mod expectation;
pub(crate) mod header;
pub(crate) mod idempotency_key;
pub(crate) mod ignored_upgrade;
pub(crate) mod json_body;
pub(crate) mod line_body;
mod line_buffer;
pub(crate) mod listen_address;
pub(crate) mod query;
pub(crate) mod start_params;
