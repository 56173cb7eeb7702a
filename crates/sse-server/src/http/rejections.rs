//! Requests that are answered with an error of this server, counted by the code of the error.
//!
//! Two kinds are also logged:
//!
//! - a publish that is rejected although it may be valid: events are missing then, and the remedy is
//!   often a setting of the server;
//! - an error whose [cause](super::error_cause) the client does not see.
//!
//! Anyone can cause such errors, so there is at most one line per minute for each code and each
//! cause.
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
    Error, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;
use sse_cli::log_throttle::LogThrottle;
use sse_proto::api::{ErrorBody, ErrorDetail};

use super::{
    error::shortened,
    error_cause::{ErrorCause, Reference},
    error_status::ErrorCode,
    request_trace,
    state::AppState,
};
use crate::metrics::{
    Metrics,
    recent::{Description, IncidentKind},
};

const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Kinds of lines that are remembered. More causes in a minute than this are not logged.
const KINDS_MAX: usize = 256;

/// Why a request was rejected.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    /// The code of the error, as sent.
    pub(super) code: &'static str,
    /// The message, as sent.
    pub(super) message: String,
    /// What the message leaves out.
    pub(super) cause: Option<ErrorCause>,
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

/// Lines of one kind share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LineKind {
    is_publish: bool,
    code: &'static str,
    reference: Option<Reference>,
}

/// Counts and logs rejected requests; clones share the counters and the limit.
#[derive(Debug, Clone)]
pub struct Rejections {
    metrics: Metrics,
    throttles: Arc<Mutex<HashMap<LineKind, LogThrottle>>>,
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

    /// Adds a rejected request to those that the dashboard shows.
    fn show(&self, rejection: &Rejection, request: &HttpRequest) {
        let describe = || Description {
            caller: request.peer_addr().map(|peer| peer.ip().to_string()),
            detail: Some(format!(
                "{} {}: {}",
                request.method(),
                shortened(request.path()),
                rejection.message
            )),
        };
        let recent = self.metrics.recent();
        recent.problem(IncidentKind::Rejection, rejection.code, describe);
    }

    fn log(&self, rejection: &Rejection, is_publish: bool) {
        let Rejection {
            code,
            message,
            cause,
        } = rejection;
        let reference = cause.as_ref().map(|cause| cause.reference);
        let kind = LineKind {
            is_publish,
            code,
            reference,
        };
        let Some(suppressed) = self.record_line(kind, Instant::now()) else {
            return;
        };
        let reason = cause.as_ref().map_or(message, |cause| &cause.text);
        let reference = reference.map(tracing::field::display);
        if is_publish {
            tracing::warn!(
                code,
                reference,
                reason,
                suppressed,
                "a publish was rejected (logged at most once per minute, code and reason)"
            );
        } else {
            tracing::warn!(
                code,
                reference,
                reason,
                suppressed,
                "a request failed (logged at most once per minute, code and reason)"
            );
        }
    }

    /// Returns how many lines of this kind were left out, or `None` if this one is left out too.
    fn record_line(&self, kind: LineKind, now: Instant) -> Option<u64> {
        let mut throttles = self.lock();
        if throttles.len() >= KINDS_MAX && !throttles.contains_key(&kind) {
            throttles.retain(|_, throttle| throttle.is_limiting(now));
            if throttles.len() >= KINDS_MAX {
                return None;
            }
        }
        let throttle = throttles.entry(kind);
        let throttle = throttle.or_insert_with(|| LogThrottle::every(LOG_INTERVAL));
        throttle.record(now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LineKind, LogThrottle>> {
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

/// Middleware: records the requests that the services inside reject, and reports to the open traces.
///
/// # Errors
///
/// Those of the services inside.
pub async fn record_rejections<B: MessageBody>(
    state: LocalData<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let traced = state.traces.is_active();
    let note = traced.then(|| request_trace::prepare(&state.traces, &request));
    let response = next.call(request).await?;
    if let Some(note) = note {
        request_trace::report(&state.traces, &note, &response);
    }
    if let Some(rejection) = response.response().extensions().get::<Rejection>() {
        let request = response.request();
        let is_publish = is_publish(request.method(), request.path());
        state.rejections.record(rejection);
        state.rejections.show(rejection, request);
        if rejection.cause.is_some() || (is_publish && concerns_operator(response.status())) {
            state.rejections.log(rejection, is_publish);
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

    fn publish(code: &'static str, cause: Option<&str>) -> LineKind {
        LineKind {
            is_publish: true,
            code,
            reference: cause.map(|cause| ErrorCause::new(cause.to_owned()).reference),
        }
    }

    #[test]
    fn each_code_and_each_cause_has_a_limit_of_its_own() {
        let (rejections, now) = (Rejections::new(Metrics::new()), Instant::now());
        for kind in [
            publish("log_full", Some("disk")),
            publish("log_full", Some("memory")),
            publish("log_full", None),
            publish("busy", None),
        ] {
            assert_eq!(rejections.record_line(kind, now), Some(0));
            assert_eq!(rejections.record_line(kind, now), None);
        }
    }

    #[test]
    fn only_so_many_causes_are_remembered() {
        let (rejections, now) = (Rejections::new(Metrics::new()), Instant::now());
        let cause = |number: usize| publish("busy", Some(&number.to_string()));
        for number in 0..2 * KINDS_MAX {
            let is_logged = rejections.record_line(cause(number), now).is_some();
            assert_eq!(is_logged, number < KINDS_MAX);
        }
        assert_eq!(rejections.lock().len(), KINDS_MAX);
        let line = rejections.record_line(cause(KINDS_MAX), now + LOG_INTERVAL);
        assert_eq!((line, rejections.lock().len()), (Some(0), 1));
    }
}
