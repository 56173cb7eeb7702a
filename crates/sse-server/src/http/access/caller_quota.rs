//! The quota of the caller of a request.
//!
//! This is the only place that decides whose quota a request uses.

use actix_web::HttpRequest;

use crate::{
    budget::ClientNet,
    http::{error::ApiError, state::AppState},
    quota::{CallerQuota, QuotaExceeded, QuotaKey, Remedy},
};

/// Returns the quota of an anonymous client. A client over a unix socket has no limit, unless a
/// trusted proxy reports its address.
pub(in crate::http) fn quota_of<'a>(request: &HttpRequest, state: &'a AppState) -> CallerQuota<'a> {
    let client = ClientNet::of_request(request);
    state.quotas.of(client.map(QuotaKey::Client))
}

impl From<QuotaExceeded> for ApiError {
    fn from(QuotaExceeded { limit, remedy }: QuotaExceeded) -> Self {
        match remedy {
            Remedy::WaitFor(retry_in) => Self::RateLimited {
                limit: limit.flag(),
                retry_in,
            },
            Remedy::AtMost(max) => Self::TooLarge {
                what: "the request".to_owned(),
                max: usize::try_from(max).unwrap_or(usize::MAX),
                unit: limit.as_str(),
                flag: limit.flag(),
            },
        }
    }
}
