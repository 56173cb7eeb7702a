//! Requests that are answered with an error of this server, counted by the code of the error.
//!
//! An [`ApiError`](super::error::ApiError) attaches a [`Rejection`] to its response, whichever
//! handler or middleware made it. Input that is barely HTTP is answered by actix, without a code,
//! and is not counted.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;

use super::{error_code::ErrorCode, state::AppState};
use crate::metrics::Metrics;

/// Why a request was rejected.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    /// The code of the error, as sent.
    pub(super) code: &'static str,
}

/// Counts rejected requests; clones share the counters.
#[derive(Debug, Clone)]
pub struct Rejections {
    metrics: Metrics,
}

impl Rejections {
    /// Creates the counters of all codes.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        metrics.create_rejection_codes(ErrorCode::ALL.iter().map(|code| code.row().0));
        Self { metrics }
    }

    /// Counts a rejected request.
    pub(super) fn record(&self, rejection: &Rejection) {
        self.metrics.request_rejected(rejection.code);
    }
}

/// Middleware: counts the requests that the services inside reject.
///
/// # Errors
///
/// Those of the services inside.
pub async fn record_rejections<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let response = next.call(request).await?;
    if let Some(rejection) = response.response().extensions().get::<Rejection>()
        && let Some(state) = response.request().app_data::<LocalData<AppState>>()
    {
        state.rejections.record(rejection);
    }
    Ok(response)
}
