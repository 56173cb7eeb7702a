//! Events as HTTP requests: by the API of sse-server, one event each or in batches, or by the
//! user's templates.
//!
//! Nothing here does I/O: the publisher sends the requests.

pub(crate) mod base_url;
mod batch;
mod body;
mod builder;
mod header;
mod headers;
mod options;
mod template;

pub(crate) use self::{
    batch::{BatchBuilder, CompleteBatch},
    builder::{OutgoingRequest, RequestBuilder},
    header::Header,
    headers::Unsendable,
    options::RequestOptions,
    template::Template,
};
