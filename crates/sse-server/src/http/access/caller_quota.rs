//! The quota of the caller of a request.
//!
//! This is the only place that decides whose quota a request uses.

use actix_web::HttpRequest;

use crate::{
    budget::ClientNet,
    http::{access::caller::Caller, error::ApiError, state::AppState},
    quota::{CallerQuota, QuotaExceeded, Remedy},
};

/// Returns the quota of the caller: of its principal, or of the network of an anonymous client. A
/// client over a unix socket has no limit, unless a trusted proxy reports its address.
///
/// A principal has the limits of its rule. If the rule has none, the flags count for the principal.
pub(in crate::http) fn quota_of(
    request: &HttpRequest,
    state: &AppState,
    caller: &Caller,
) -> CallerQuota {
    if let Some((principal, limits)) = caller.quota_principal() {
        return state.quotas.of_principal(principal, limits);
    }
    let client = ClientNet::of_request(request);
    state.quotas.of_client(client, caller.identity().limits())
}

impl From<QuotaExceeded> for ApiError {
    fn from(exceeded: QuotaExceeded) -> Self {
        let setting = exceeded.setting();
        match exceeded.remedy {
            Remedy::WaitFor(retry_in) => Self::RateLimited {
                limit: setting,
                retry_in,
            },
            Remedy::AtMost(max) => Self::TooLarge {
                what: "the request".to_owned(),
                max: usize::try_from(max).unwrap_or(usize::MAX),
                unit: exceeded.limit.as_str(),
                flag: setting,
            },
        }
    }
}
