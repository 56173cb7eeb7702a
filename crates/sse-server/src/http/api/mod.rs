//! The routes for events: publishing, streams and history.

mod batch_channels;
mod data_profile;
mod history_memory;
mod history_response;
mod idempotency;
mod publish_quota;
mod stream_details;
pub(in crate::http) mod stream_response;
mod stream_shares;
mod streaming_publish;

pub(crate) mod batch;
pub(crate) mod channels;
pub(crate) mod history;
pub(crate) mod publish;
pub(crate) mod stream;
pub(crate) mod tokens;

pub use history_memory::HistoryBudget;
pub use streaming_publish::KeepAliveRate;
