//! Requests that are answered with an error of this server, counted by the code of the error.
//!
//! A publish that is rejected although it may be valid is also logged: events are missing then, and
//! the remedy is often a setting of the server. Anyone can cause such rejections, so there is at
//! most one line per code and minute.
//!
//! An [`ApiError`](super::error::ApiError) attaches a [`Rejection`] to its response, whichever
//! handler or middleware made it. Input that is barely HTTP is answered by actix, without a code,
//! and is not counted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;
use sse_proto::api::{ErrorBody, ErrorDetail};

use super::{error_code::ErrorCode, state::AppState};
use crate::{log_throttle::LogThrottle, metrics::Metrics};

const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Why a request was rejected.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    /// The code of the error, as sent.
    pub(super) code: &'static str,
    /// The message, as sent.
    pub(super) message: String,
}

impl Rejection {
    /// Returns the body of the response.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.to_owned(),
                message: self.message.clone(),
            },
        }
    }
}

/// Counts rejected requests, and logs rejected publishes; clones share the counters and the limit.
#[derive(Debug, Clone)]
pub struct Rejections {
    metrics: Metrics,
    throttles: Arc<Mutex<HashMap<&'static str, LogThrottle>>>,
}

impl Rejections {
    /// Creates the counters of all codes.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        metrics.create_rejection_codes(ErrorCode::ALL.iter().map(|code| code.row().0));
        Self {
            metrics,
            throttles: Arc::default(),
        }
    }

    /// Counts a rejected request.
    pub(super) fn record(&self, rejection: &Rejection) {
        self.metrics.request_rejected(rejection.code);
    }

    fn log_publish(&self, Rejection { code, message }: &Rejection) {
        let suppressed = self.record_occurrence(code);
        if let Some(suppressed) = suppressed {
            tracing::warn!(
                code,
                reason = message,
                suppressed,
                "a publish was rejected (logged at most once per minute and code)"
            );
        }
    }

    /// Returns how many lines with `code` were left out, or `None` if this one is left out too.
    fn record_occurrence(&self, code: &'static str) -> Option<u64> {
        let mut throttles = self.lock();
        let throttle = throttles.entry(code);
        let throttle = throttle.or_insert_with(|| LogThrottle::every(LOG_INTERVAL));
        throttle.record(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, LogThrottle>> {
        // No code panics while it holds this lock.
        self.throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the request is a publish, or the preflight of one.
fn is_publish(method: &Method, path: &str) -> bool {
    path.starts_with("/event/") || (path == "/events" && method != Method::GET)
}

/// Whether the operator may have to act: the publish may be valid, and is rejected all the same.
const fn concerns_operator(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE
    )
}

/// Middleware: records the requests that the services inside reject.
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
        let request = response.request();
        state.rejections.record(rejection);
        if concerns_operator(response.status()) && is_publish(request.method(), request.path()) {
            state.rejections.log_publish(rejection);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_any_request_that_can_add_events() {
        for (method, path) in [
            (Method::POST, "/event/click"),
            (Method::GET, "/event/click"),
            (Method::OPTIONS, "/event/click"),
            (Method::POST, "/events"),
            (Method::OPTIONS, "/events"),
        ] {
            assert!(is_publish(&method, path), "{method} {path}");
        }
        for path in ["/events", "/stream", "/metrics", "/event"] {
            assert!(!is_publish(&Method::GET, path), "{path}");
        }
    }

    #[test]
    fn each_code_has_a_limit_of_its_own() {
        let rejections = Rejections::new(Metrics::new());
        assert_eq!(rejections.record_occurrence("log_full"), Some(0));
        assert_eq!(rejections.record_occurrence("log_full"), None);
        assert_eq!(rejections.record_occurrence("busy"), Some(0));
    }
}
