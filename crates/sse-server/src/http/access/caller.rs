//! The caller of a request.
//!
//! Every handler that reads, publishes or observes takes a [`Caller`] as an argument. There is
//! no authentication yet: every caller is anonymous, and the address that the server listens on
//! decides who reaches it.
//!
//! Limits do not count callers but clients, by their addresses: see `budget::client_net`.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use crate::http::error::{ApiError, ApiResult};

/// The caller of a request, as an extractor for handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A client without credentials.
    Anonymous,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::Anonymous))
    }
}
